/**
 * From an HTTP request with a message to its answer, in either era: the modern one by a server made for the request, the legacy one by the
 * session that the request names. Owns the way between Fastify and the library, and that streams end when this coordinator leaves.
 */

import { toNodeHandler } from "@modelcontextprotocol/node";
import { classifyInboundRequest, createMcpHandler, type ServerEventBus } from "@modelcontextprotocol/server";
import { type JsonDocument, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { isStillAllowed } from "../guard.ts";
import { httpLine } from "../open-calls.ts";
import { headerOf } from "../request-options.ts";
import { traceOf } from "../traced-requests.ts";
import { authInfoOf, factsOf, type RequestFacts } from "./request-facts.ts";
import type { MakeServer } from "./serving.ts";
import { Sessions } from "./sessions.ts";

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

export function openExchange(context: DoorContext, make: MakeServer, bus: ServerEventBus | undefined): Exchange {
  const { log } = context;
  // mostly what clients did wrong, which they are told
  const onerror = (error: Error): void => log.debug?.("mcp_refused", { error: error.message });
  const limit = { maxRequestBodySize: context.config.maxJsonBytes };
  const made: MakeServer = async (asked) => {
    try {
      return await make(asked);
    } catch (error) {
      log.error("mcp_server_failed", { era: asked.era, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      throw error;
    }
  };
  const modern = createMcpHandler(({ authInfo }) => made({ caller: factsOf(authInfo).caller, era: "modern" }), {
    ...limit,
    ...(bus && { bus }),
    legacy: "reject",
    onerror,
  });
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
    const isWait = method === "GET" || methodIn(body) === "subscriptions/listen";
    const call = isWait ? context.calls.waiting(httpLine(reply.raw)) : undefined;
    const over = new AbortController();
    let isStream = false;

    async function fetch(asked: Request): Promise<Response> {
      const response = await (use === undefined ? modern.fetch(asked, given) : use.fetch(asked, given));
      // told when the answer leaves: a call may have been held for long
      if (context.leaving()) response.headers.set("connection", "close");
      isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
      if (call === undefined || response.body === null) return response;
      watchKey(context, request, over);
      return new Response(endedBy(response.body, AbortSignal.any([call.signal, over.signal])), response);
    }

    reply.hijack();
    reply.raw.setHeader("cache-control", "no-store").setHeader("x-content-type-options", "nosniff");
    for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) reply.raw.setHeader(name, value);
    try {
      // the body has been read: what is handed on is the request without it
      await toNodeHandler({ fetch }, { ...limit, onerror: (error) => failed(request, error) })(
        { method, url: request.url, headers: withoutLength(raw.headers), [Symbol.asyncIterator]: noBody },
        reply.raw,
      );
    } finally {
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
      await Promise.all([modern.close(), sessions.close()]);
    },
  };
}

async function* noBody(): AsyncGenerator<never> {}

function withoutLength({ "content-length": _length, "content-encoding": _encoding, ...headers }: FastifyRequest["headers"]) {
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

function methodIn(body: unknown): unknown {
  return typeof body === "object" && body !== null && "method" in body ? body.method : undefined;
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

/** The same stream, which also ends, and leaves its source, when the signal aborts. */
function endedBy(source: ReadableStream<Uint8Array>, signal: AbortSignal): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  const leave = (): void => void reader.cancel().catch(() => {});
  if (signal.aborted) leave();
  else signal.addEventListener("abort", leave, { once: true });
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (why) => reader.cancel(why),
  });
}
