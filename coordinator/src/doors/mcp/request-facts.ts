/** What is known of the HTTP request behind a message, on its way through the protocol's library to whoever handles the message. */

import type { AuthInfo, ServerContext } from "@modelcontextprotocol/server";
import type { TraceContext } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";

export interface RequestFacts {
  caller: Caller;
  /** Of the HTTP request. */
  requestId: string;
  /** What the request waited for in the event loop, and its answer will wait for. */
  spentMs: number;
  /** The message once more, with whole numbers that a double may round as strings of their digits. */
  exact?: () => unknown;
  /** The span of the HTTP request; only where tracing is on. */
  trace?: TraceContext | undefined;
}

/** The library hands this on as it is, and looks at nothing in it. */
export function authInfoOf(facts: RequestFacts): AuthInfo {
  return { token: "", clientId: principalOf(facts.caller), scopes: [...facts.caller.scopes], extra: { facts } };
}

export function factsOf(info: AuthInfo | undefined): RequestFacts {
  const facts = info?.extra?.facts;
  if (facts === undefined) throw new Error("a message came without the facts of its request");
  return facts as RequestFacts;
}

export function factsIn(context: ServerContext): RequestFacts {
  return factsOf(context.http?.authInfo);
}

/** Whom a session, or what a client keeps for this server, is bound to. */
export function principalOf({ keyId, tenant }: Caller): string {
  return `${tenant}/${keyId ?? ""}`;
}

/** Whether a key still gives what it gave: a session lives on the rights with which it was opened. */
export function isSameCaller(one: Caller, other: Caller): boolean {
  const sameSet = (first: ReadonlySet<string> | undefined, second: ReadonlySet<string> | undefined): boolean =>
    first === second ||
    (first !== undefined && second !== undefined && first.size === second.size && [...first].every((it) => second.has(it)));
  return principalOf(one) === principalOf(other) && sameSet(one.scopes, other.scopes) && sameSet(one.models, other.models);
}
