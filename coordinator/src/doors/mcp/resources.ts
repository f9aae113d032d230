/**
 * Registers what concerns resources, prompts, completion and subscriptions with a server of the protocol, for one caller. The same handlers serve
 * both revisions; a session of the earlier one also subscribes here. Each handler asks what /v1 asks, and tells failures in the protocol's words.
 */

import type { CacheHint, Server, ServerCapabilities, ServerContext } from "@modelcontextprotocol/server";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { allLists, type ChangeEvent, type Changes } from "./changes.ts";
import { complete } from "./completion.ts";
import type { Cursors } from "./cursors.ts";
import { getPrompt, promptList } from "./prompts.ts";
import { asProtocolError } from "./protocol-errors.ts";
import { listResources, templates } from "./resource-list.ts";
import { listTtlMs, readResource } from "./resource-views.ts";

/** To be merged with those of the tools. */
export const capabilities = {
  resources: { subscribe: true, listChanged: true },
  prompts: { listChanged: true },
  completions: {},
} as const satisfies ServerCapabilities;

/** What is the same for everybody changes with the release only. */
const fixedTtlMs = 300_000;

export interface ResourceHandlerParts {
  context: DoorContext;
  caller: Caller;
  cursors: Cursors;
  changes: Changes;
  /** Of the earlier revision; without one nobody can subscribe through this server. */
  session?: ResourceSession;
}

export interface ResourceSession {
  /** Whether its key is still good; absent: whoever keeps the session sees to that. */
  isAllowed?(): boolean;
  /** Nothing will be told any more: its key is no longer good, or this coordinator ends. */
  end(): void;
  /** Aborts when the session is over. */
  signal: AbortSignal;
}

export function addResourceHandlers(server: Server, what: ResourceHandlerParts): void {
  const { caller, context, cursors } = what;
  const told = async <T>(method: string, answer: () => Promise<T>, uri?: string): Promise<T> => {
    try {
      return await answer();
    } catch (error) {
      throw asProtocolError(error, { method, uri, log: context.log });
    }
  };
  server.setRequestHandler("resources/list", ({ params }, ctx) =>
    told("resources/list", async () => {
      const page = await listResources(context, { caller, cursors, cursor: params?.cursor });
      return kept(ctx, page, { ttlMs: listTtlMs, cacheScope: "private" });
    }),
  );
  server.setRequestHandler("resources/templates/list", ({ params }, ctx) =>
    told("resources/templates/list", async () => {
      await onlyPage(what, "resources/templates/list", params?.cursor);
      return kept(ctx, { resourceTemplates: templates }, { ttlMs: fixedTtlMs, cacheScope: "public" });
    }),
  );
  server.setRequestHandler("resources/read", ({ params: { uri } }, ctx) =>
    told(
      "resources/read",
      async () => {
        const { contents, ttlMs } = await readResource(context, caller, uri);
        return kept(ctx, { contents }, { ttlMs, cacheScope: "private" });
      },
      uri,
    ),
  );
  server.setRequestHandler("prompts/list", ({ params }, ctx) =>
    told("prompts/list", async () => {
      await onlyPage(what, "prompts/list", params?.cursor);
      return kept(ctx, { prompts: promptList() }, { ttlMs: fixedTtlMs, cacheScope: "public" });
    }),
  );
  server.setRequestHandler("prompts/get", ({ params }) => told("prompts/get", () => getPrompt(context, caller, params)));
  server.setRequestHandler("completion/complete", ({ params }) => told("completion/complete", () => complete(context, caller, params)));
  if (what.session) addSubscriptions(server, what, { session: what.session, told });
}

/** The result with how long it may be kept, for clients of the revision that knows it. */
function kept<Result extends object>({ mcpReq }: ServerContext, result: Result, hint: Required<CacheHint>): Result {
  return mcpReq.envelope === undefined ? result : { ...result, ...hint };
}

/** Of a list with one page there is no cursor that could be good. */
async function onlyPage({ caller, cursors }: ResourceHandlerParts, method: string, cursor: string | undefined): Promise<void> {
  if (cursor !== undefined) await cursors.open(cursor, { caller, method });
}

/** Sessions hear of lists from their start, and of the resources that they subscribe to. */
function addSubscriptions(
  server: Server,
  { caller, changes }: ResourceHandlerParts,
  { session, told }: { session: ResourceSession; told: <T>(method: string, answer: () => Promise<T>, uri?: string) => Promise<T> },
): void {
  const subscription = changes.open({
    caller,
    isAllowed: () => session.isAllowed?.() ?? true,
    lists: allLists,
    // a client that has gone, or does not listen, does without
    tell: (event) => void server.notification(notificationOf(event)).catch(() => {}),
    end: () => session.end(),
  });
  if (session.signal.aborted) subscription.close();
  else session.signal.addEventListener("abort", () => subscription.close(), { once: true });
  server.setRequestHandler("resources/subscribe", ({ params: { uri } }) =>
    told(
      "resources/subscribe",
      async () => {
        await subscription.follow(uri);
        return {};
      },
      uri,
    ),
  );
  server.setRequestHandler("resources/unsubscribe", ({ params: { uri } }) =>
    told("resources/unsubscribe", async () => {
      subscription.unfollow(uri);
      return {};
    }),
  );
}

function notificationOf(event: ChangeEvent) {
  switch (event.kind) {
    case "tools_list_changed":
      return { method: "notifications/tools/list_changed" as const };
    case "prompts_list_changed":
      return { method: "notifications/prompts/list_changed" as const };
    case "resources_list_changed":
      return { method: "notifications/resources/list_changed" as const };
    case "resource_updated":
      return { method: "notifications/resources/updated" as const, params: { uri: event.uri } };
  }
}
