/**
 * Requests of a session that another coordinator has, which shares this one's address: clients cannot choose whom of them they reach, so what
 * comes here is handed on, and its answer handed back as it comes. Nothing of it is read here but the session's id.
 */

import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { pipeline } from "node:stream/promises";
import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { DoorContext } from "../door-context.ts";
import { httpLine, type OpenCall } from "../open-calls.ts";
import { headerOf } from "../request-options.ts";
import { unknownSession } from "./session-words.ts";

/** Of ids of sessions: the coordinator that has it. */
const named = /^([a-z2-7]{26})\./;
/** Nobody has listened there for a while, or never did. */
const nobodyThere = new Set(["ECONNREFUSED", "ENOENT"]);
/** For which an answer's headers are waited for; those of a call that goes on come at once. */
const mostHeadersMs = 60_000;
/** Between two ends of one connection, and nobody else's. */
const ofConnection = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"];

/** The socket of the coordinator that has the request's session; undefined where that is this one, or nobody who can be asked. */
export function siblingOf({ siblings }: DoorContext, { headers }: FastifyRequest): string | undefined {
  const [, coordinator] = named.exec(headerOf(headers, "mcp-session-id") ?? "") ?? [];
  return siblings === undefined || coordinator === undefined || coordinator === siblings.me ? undefined : siblings.of(coordinator);
}

interface Came {
  request: FastifyRequest;
  reply: FastifyReply;
}

export async function handOn(context: DoorContext, socketPath: string, { request, reply }: Came): Promise<FastifyReply> {
  const { raw } = request;
  const line = httpLine(reply.raw);
  // a stream without end must end when this coordinator does; its client asks for what it missed
  const call = request.method === "GET" ? context.calls.waiting(line) : context.calls.held(line);
  const over = new AbortController();
  const cancelTimer = context.clock.after(mostHeadersMs, () => over.abort());
  try {
    const headers = { ...withoutConnection(raw.headers), connection: "keep-alive", "x-request-id": request.id };
    const signal = AbortSignal.any([call.signal, over.signal]);
    const asked = httpRequest({ socketPath, method: request.method, path: request.url, headers, agent: false, signal });
    const answered = Promise.withResolvers<IncomingMessage>();
    asked.on("response", answered.resolve).on("error", answered.reject);
    raw.pipe(asked);
    const answer = await answered.promise;
    cancelTimer();
    reply.hijack();
    reply.raw.writeHead(answer.statusCode!, { ...withoutConnection(answer.headers), ...(context.leaving() && { connection: "close" }) });
    reply.raw.flushHeaders(); // a stream may say nothing for long
    await handBack(answer, reply, call);
    asked.destroy();
    return reply;
  } catch (error) {
    if (call.toldToGo()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
    if (nobodyThere.has(String((error as NodeJS.ErrnoException).code)))
      return reply
        .code(404)
        .header("content-type", "application/json")
        .send(Buffer.from(JSON.stringify(unknownSession)));
    // it may have been heard: whoever asks directly is told no more than this when the server goes
    reply.hijack();
    reply.raw.destroy();
    return reply;
  } finally {
    cancelTimer();
    call.end();
    // what is left of the body must not stand before the next request on its connection
    raw.unpipe();
    raw.resume();
    if (context.draining()) raw.socket.destroySoon(); // an answer that began before could not say that its connection ends
  }
}

async function handBack(answer: IncomingMessage, reply: FastifyReply, call: OpenCall): Promise<void> {
  try {
    await pipeline(answer, reply.raw, { end: false });
    reply.raw.end();
  } catch {
    // of a stream that this coordinator ends nothing is lost: it is taken up at another one
    if (call.toldToGo()) reply.raw.end();
    else reply.raw.destroy();
  }
}

function withoutConnection(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const listed = (headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase());
  const own = new Set([...ofConnection, ...listed]);
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !own.has(name)));
}
