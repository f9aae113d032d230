/**
 * From an HTTP request with a message to its answer, in either era: the modern one by a server made for the request, the legacy one by the
 * session that the request names. Owns the way between Fastify and the library, and that streams end when this coordinator leaves.
 */

import { toNodeHandler } from "@modelcontextprotocol/node";
import { classifyInboundRequest, createMcpHandler, type McpServerFactory } from "@modelcontextprotocol/server";
import { type JsonDocument, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { isStillAllowed } from "../guard.ts";
import { httpLine } from "../open-calls.ts";
import { headerOf } from "../request-options.ts";
import { traceOf } from "../traced-requests.ts";
import { isListen } from "./change-streams.ts";
import { authInfoOf, factsOf, type RequestFacts } from "./request-facts.ts";
import type { MakeServer, Served } from "./serving.ts";
import { Sessions } from "./sessions.ts";
import { bounded } from "./stream-bounds.ts";

/** How often it is asked whether the key of a stream without end is still good. */
const lookAtKeyMs = 15_000;

interface Came {
  caller: Caller;
  /** Of a POST. */
  document: JsonDocument | undefined;
  spentMs: number;
}

export interface Exchange {
  answer(request: FastifyRequest, reply: FastifyReply, came: Came): Promise<FastifyReply>;
  close(): Promise<void>;
}

export function openExchange(context: DoorContext, served: Served): Exchange {
  const { log } = context;
  // mostly what clients did wrong, which they are told
  const onerror = (error: Error): void => log.debug?.("mcp_refused", { error: error.message });
  const limit = { maxRequestBodySize: context.config.maxJsonBytes };
  const made: MakeServer = async (asked) => {
    try {
      return await served.make(asked);
    } catch (error) {
      if (error instanceof SwitchyardError) throw error;
      log.error("mcp_server_failed", { era: asked.era, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      throw error;
    }
  };
  const factory: McpServerFactory = ({ authInfo }) => made({ caller: factsOf(authInfo).caller, era: "modern" });
  const modern = createMcpHandler(factory, { ...limit, ...(served.bus && { bus: served.bus }), legacy: "reject", onerror });
  const streams = served.listen?.(factory);
  const sessions = new Sessions(context, made);

  async function answer(request: FastifyRequest, reply: FastifyReply, { caller, document, spentMs }: Came): Promise<FastifyReply> {
    const { method, raw } = request;
    const body = document?.value;
    const isLegacy =
      classifyInboundRequest({ httpMethod: method, ...standardHeaders(request), ...(document && { body }) }).kind === "legacy";
    if (!isLegacy && context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
    const facts: RequestFacts = { caller, requestId: request.id, spentMs, ...(document && { exact: document.exact }) };
    if (context.tracing) facts.trace = traceOf(request);
    const given = { authInfo: authInfoOf(facts), ...(document && { parsedBody: body }) };
    const use = isLegacy ? sessions.use(headerOf(request.headers, "mcp-session-id"), caller) : undefined;
    const isWait = method === "GET" || isListen(body);
    const line = httpLine(reply.raw);
    const call = isWait ? context.calls.waiting(line) : undefined;
    const over = new AbortController();
    const stopListening = line.onGone(() => over.abort());
    if (line.isGone()) over.abort();
    let isStream = false;

    async function respond(asked: Request): Promise<Response> {
      if (use !== undefined) return use.fetch(asked, given);
      if (streams === undefined || !isListen(body)) return modern.fetch(asked, given);
      return streams.fetch(asked, { body, caller, isAllowed: () => isStillAllowed(request), authInfo: given.authInfo });
    }

    async function fetch(asked: Request): Promise<Response> {
      const response = await respond(asked);
      // told when the answer leaves: a call may have been held for long
      if (context.leaving()) response.headers.set("connection", "close");
      isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
      if (response.body === null || !isStream || (call === undefined && use === undefined)) return response;
      if (call !== undefined) watchKey(context, request, over);
      const bounds = {
        // a session takes up a stream again only when it knows that its reader has gone
        signal: call ? AbortSignal.any([call.signal, over.signal]) : over.signal,
        opening: true,
        behind: () => void reply.raw.destroy(),
      };
      return new Response(bounded(response.body, bounds), response);
    }

    reply.hijack();
    reply.raw.setHeader("cache-control", "no-store").setHeader("x-content-type-options", "nosniff");
    for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) reply.raw.setHeader(name, value);
    try {
      // the body has been read: what is handed on is the request without it, and without its Host, which the library would make an address of
      await toNodeHandler({ fetch }, { ...limit, onerror: (error) => failed(request, error) })(
        { method, url: request.url, headers: handedOn(raw.headers), [Symbol.asyncIterator]: noBody },
        reply.raw,
      );
    } finally {
      stopListening();
      over.abort();
      call?.end();
      use?.end();
      if (isStream && context.draining()) raw.socket.destroySoon(); // the stream's headers could not say that its connection ends
    }
    return reply;
  }

  function failed(request: FastifyRequest, error: Error): void {
    log.error("request_failed", { trace_id: request.id, method: request.method, route: "/mcp", error: error.stack ?? error.message });
  }

  return {
    answer,
    async close() {
      await Promise.all([modern.close(), sessions.close(), streams?.close()]);
      served.close?.();
    },
  };
}

async function* noBody(): AsyncGenerator<never> {}

function handedOn({ "content-length": _length, "content-encoding": _encoding, host: _host, ...headers }: FastifyRequest["headers"]) {
  return headers;
}

function standardHeaders({ headers }: FastifyRequest) {
  const names = {
    protocolVersionHeader: headerOf(headers, "mcp-protocol-version"),
    mcpMethodHeader: headerOf(headers, "mcp-method"),
    mcpNameHeader: headerOf(headers, "mcp-name"),
  };
  return Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined));
}

/** Keys are revoked and expire while a stream goes on. */
function watchKey({ clock }: DoorContext, request: FastifyRequest, over: AbortController): void {
  const look = (): void => {
    if (isStillAllowed(request)) cancel = clock.after(lookAtKeyMs, look);
    else over.abort();
  };
  let cancel = clock.after(lookAtKeyMs, look);
  over.signal.addEventListener("abort", () => cancel(), { once: true });
}
