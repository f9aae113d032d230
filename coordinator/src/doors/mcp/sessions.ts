/**
 * Sessions of the legacy era. Each lives in the coordinator that opened it and is bound to the key that opened it; the same one after a restart, or
 * another one that does not share its address, answers 404, on which clients open a new one. Bounded in number, by key and in all, and by idle time.
 */

import { randomUUID } from "node:crypto";
import {
  isInitializeRequest,
  type McpHandlerRequestOptions,
  type McpServer,
  type Server,
  WebStandardStreamableHTTPServerTransport,
} from "@modelcontextprotocol/server";
import { errors, SwitchyardError } from "@switchyard/protocol";
import { newIncarnation } from "@switchyard/protocol/redis";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { isSameCaller, principalOf } from "./request-facts.ts";
import type { MakeServer } from "./serving.ts";
import { SessionEvents } from "./session-events.ts";
import { unknownSession } from "./session-words.ts";

const idleMs = 30 * 60_000;
const mostSessions = 1_024;
const mostOfOneKey = 64;
const serverError = -32_000;
/** As the Language Server Protocol has it; this one has no word for it. */
const requestCancelled = -32_800;

interface Session {
  transport: WebStandardStreamableHTTPServerTransport;
  server: Server | McpServer;
  caller: Caller;
  /** Requests that are being answered, streams among them. */
  open: number;
  cancelIdle: () => void;
}

/** One HTTP request's use of a session. */
export interface SessionUse {
  fetch(asked: Request, given: McpHandlerRequestOptions): Promise<Response>;
  /** When the answer was sent. */
  end(): void;
}

export class Sessions {
  readonly #context: DoorContext;
  readonly #make: MakeServer;
  readonly #coordinator: string;
  /** By id; those that were used last stand last. */
  readonly #sessions = new Map<string, Session>();

  constructor(context: DoorContext, make: MakeServer) {
    this.#context = context;
    this.#make = make;
    this.#coordinator = context.siblings?.me ?? newIncarnation();
  }

  use(id: string | undefined, caller: Caller): SessionUse {
    const session = id === undefined ? undefined : this.#sessions.get(id);
    if (id === undefined) return { fetch: (asked, given) => this.#open(asked, given, caller), end: () => {} };
    if (session === undefined || !isSameCaller(session.caller, caller))
      return { fetch: async () => Response.json(unknownSession, { status: 404 }), end: () => {} };
    session.open += 1;
    session.cancelIdle();
    this.#sessions.delete(id);
    this.#sessions.set(id, session);
    return {
      fetch: (asked, given) => session.transport.handleRequest(asked, given),
      end: () => {
        session.open -= 1;
        this.#watch(id, session);
      },
    };
  }

  async #open(asked: Request, given: McpHandlerRequestOptions, caller: Caller): Promise<Response> {
    const { parsedBody } = given;
    if (!isInitializeRequest(parsedBody)) {
      const why = "The header Mcp-Session-Id is required: a session begins with initialize, or use revision 2026-07-28, which has none";
      return refusal(400, serverError, why);
    }
    let id: string | undefined;
    let server: Server | McpServer;
    try {
      if (this.#context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
      await this.#makeRoom(caller);
      server = await this.#make({ caller, era: "legacy" });
    } catch (error) {
      if (error instanceof SwitchyardError) return refusalOf(error);
      throw error;
    }
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => `${this.#coordinator}.${randomUUID()}`,
      eventStore: new SessionEvents(),
      maxRequestBodySize: this.#context.config.maxJsonBytes,
      onsessioninitialized: (made) => {
        id = made;
        this.#sessions.set(made, session);
        this.#watch(made, session);
      },
      onsessionclosed: (gone) => void this.#end(gone),
    });
    const session: Session = { transport, server, caller, open: 0, cancelIdle: () => {} };
    await server.connect(transport);
    answerCancelled(transport);
    const response = await transport.handleRequest(asked, given);
    if (id === undefined) await server.close();
    return response;
  }

  /** Clients forget their sessions: one that is idle gives way. Throws `rate_limited` where none is. */
  async #makeRoom(caller: Caller): Promise<void> {
    const held = [...this.#sessions].map(([id, { caller: its, open }]) => ({
      id,
      tenant: its.tenant,
      key: principalOf(its),
      isIdle: open === 0,
    }));
    const idle = givingWay(held, { key: principalOf(caller), mostOfOneKey, most: mostSessions });
    if (idle === "none is idle") {
      const detail = "Too many sessions are open at this moment; end some, or try again";
      throw new SwitchyardError("rate_limited", detail, { retryAfterMs: 5_000 });
    }
    if (idle !== undefined) await this.#end(idle);
  }

  #watch(id: string, session: Session): void {
    session.cancelIdle();
    if (session.open === 0 && this.#sessions.get(id) === session) {
      session.cancelIdle = this.#context.clock.after(idleMs, () => void this.#end(id));
    }
  }

  async #end(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    this.#sessions.delete(id);
    session.cancelIdle();
    await session.server.close().catch(() => {});
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((id) => this.#end(id)));
  }
}

/**
 * The library answers nothing to a request that was cancelled, and so leaves the stream open on which the answer was to come, for as long as the
 * client does. This ends it: clients pass over an answer that they do not wait for.
 */
function answerCancelled(transport: WebStandardStreamableHTTPServerTransport): void {
  const { onmessage } = transport;
  transport.onmessage = (message, extra) => {
    onmessage?.(message, extra);
    if (!("method" in message) || message.method !== "notifications/cancelled") return;
    const { requestId: id } = (message.params ?? {}) as { requestId?: string | number };
    if (id === undefined) return;
    // one that has been answered, or never was, has no stream
    void transport.send({ jsonrpc: "2.0", id, error: { code: requestCancelled, message: "The request was cancelled" } }).catch(() => {});
  };
}

export interface HeldSession {
  id: string;
  tenant: string;
  key: string;
  isIdle: boolean;
}

/**
 * Which session ends when another one begins; those that were used last stand last. One of the same key where that has its most; where all
 * places are taken, that of the tenant that has the most, and of its keys the one that has the most, so that nobody shuts out others.
 */
export function givingWay(
  held: readonly HeldSession[],
  { key, most, mostOfOneKey }: { key: string; mostOfOneKey: number; most: number },
): string | "none is idle" | undefined {
  const own = held.filter((session) => session.key === key);
  if (own.length >= mostOfOneKey) return own.find(({ isIdle }) => isIdle)?.id ?? "none is idle";
  if (held.length < most) return undefined;
  const ofTenant = countsOf(held, ({ tenant }) => tenant);
  const ofKey = countsOf(held, (session) => session.key);
  const sizeOf = (session: HeldSession): readonly [number, number] => [ofTenant.get(session.tenant)!, ofKey.get(session.key)!];
  let chosen: HeldSession | undefined;
  for (const session of held.filter(({ isIdle }) => isIdle)) {
    const [byTenant, byKey] = sizeOf(session);
    const [tenants, keys] = chosen === undefined ? [0, 0] : sizeOf(chosen);
    if (byTenant > tenants || (byTenant === tenants && byKey > keys)) chosen = session;
  }
  return chosen?.id ?? "none is idle";
}

function countsOf(held: readonly HeldSession[], nameOf: (session: HeldSession) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const session of held) counts.set(nameOf(session), (counts.get(nameOf(session)) ?? 0) + 1);
  return counts;
}

function refusalOf({ code, facts, message }: SwitchyardError): Response {
  const { retryAfterMs = 1_000 } = facts;
  const headers = { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) };
  const error = { code: serverError, message, data: { code, retry_after_ms: retryAfterMs } };
  return Response.json({ jsonrpc: "2.0", id: null, error }, { status: errors[code].http, headers });
}

function refusal(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: "2.0", id: null, error: { code, message } }, { status });
}
