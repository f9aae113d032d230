/**
 * `/mcp`: the Model Context Protocol over Streamable HTTP. Owns what HTTP asks of it, as of every door: who asks, from which page, how large
 * a body may be, that it is JSON. What is served is made by whoever adds it. The protocol's library is loaded with the first request, so that
 * a coordinator that nobody asks so does not hold it.
 */

import type { McpServer, McpServerFactory, Server, ServerEventBus } from "@modelcontextprotocol/server";
import { errors, type JsonDocument, parseJson, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { callerOf } from "../guard.ts";
import { readBody } from "../request-body.ts";
import { addRoute } from "../routes.ts";
import type { ChangeStreams } from "./change-streams.ts";
import type { Exchange } from "./exchange.ts";
import { handOn, siblingOf } from "./sibling.ts";

export const mcpPath = "/mcp";

/** `modern`: 2026-07-28, each request for itself. `legacy`: the revisions up to 2025-11-25, in sessions. */
export type Era = "modern" | "legacy";

/** Who is served: one request of the modern era, or one session of the legacy era. */
export interface Asked {
  caller: Caller;
  era: Era;
}

/** Makes what serves one request or session; called for each, so it must be cheap. */
export type MakeServer = (asked: Asked) => Server | McpServer | Promise<Server | McpServer>;

export interface Served {
  make: MakeServer;
  /** Serves `subscriptions/listen`. Absent: the library does, and tells every stream what `bus` tells. */
  listen?: (factory: McpServerFactory) => Pick<ChangeStreams, "fetch" | "close">;
  /** Absent: events of this process alone. */
  bus?: ServerEventBus;
  /** Called last, when no server is in use any more. */
  close?: () => void;
}

const maxDepth = 100;
const parseError = -32_700;
const invalidRequest = -32_600;

/** `load` is called with the first request, and again after it has failed; `lastAsked` when the server has closed, and resolves when nobody asks any more. */
export function addMcp(
  app: FastifyInstance,
  context: DoorContext,
  load: () => Promise<Served>,
  lastAsked = async (): Promise<void> => {},
): void {
  let opened: Promise<Exchange> | undefined;
  const open = async (): Promise<Exchange> => {
    const [{ openExchange }, served] = await Promise.all([import("./exchange.ts"), load()]);
    return openExchange(context, served);
  };
  const exchange = (): Promise<Exchange> => {
    opened ??= open().catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };
  const answer = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    refuseForeignOrigin(context, request);
    const sibling = siblingOf(context, request);
    if (sibling !== undefined) return handOn(context, sibling, { request, reply });
    const { inMs, outMs } = context.turns.waited();
    let document: JsonDocument | undefined;
    try {
      if (request.method === "POST") document = await documentOf(context, request);
    } catch (error) {
      if (error instanceof SwitchyardError) return sendRefusal(reply, error);
      throw error;
    }
    const room = await exchange();
    return room.answer(request, reply, { caller: callerOf(request), document, spentMs: inMs + outMs });
  };
  addRoute(app, mcpPath, { GET: answer, POST: answer, DELETE: answer });
  app.addHook("onClose", async () => {
    await lastAsked();
    const room = await opened?.catch(() => undefined);
    await room?.close();
  });
}

/**
 * The protocol has servers refuse pages of other origins even where a key is asked for. Without keys `foreign-pages.ts` has looked already, at
 * the Host header too, which says nothing where a key must be shown.
 */
function refuseForeignOrigin({ config: { corsOrigins } }: DoorContext, { headers }: FastifyRequest): void {
  const { host, origin } = headers;
  if (origin === undefined || corsOrigins.includes("*") || corsOrigins.includes(origin)) return;
  if (URL.canParse(origin) && new URL(origin).host === host?.toLowerCase()) return;
  const detail = `A page of ${JSON.stringify(origin.slice(0, 256))} asked: only pages of this server, and of the origins that --cors-origins names, may ask`;
  throw new SwitchyardError("forbidden", detail);
}

async function documentOf(context: DoorContext, { raw }: FastifyRequest): Promise<JsonDocument> {
  const held = context.bodies.body();
  try {
    return parseJson(await readBody(raw, { maxBytes: context.config.maxJsonBytes, held }), maxDepth);
  } finally {
    held.leave();
  }
}

/** What cannot be read belongs to no request, and is answered as the protocol's clients expect it. */
function sendRefusal(reply: FastifyReply, error: SwitchyardError): FastifyReply {
  const code = error.code === "invalid_request" ? parseError : invalidRequest;
  const data = { code: error.code, ...(error.facts.retryAfterMs !== undefined && { retry_after_ms: error.facts.retryAfterMs }) };
  const answer = { jsonrpc: "2.0", id: null, error: { code, message: error.message, data } };
  return reply
    .code(errors[error.code].http)
    .header("content-type", "application/json")
    .header("cache-control", "no-store")
    .send(Buffer.from(JSON.stringify(answer)));
}
