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

/** Nobody has listened there for a while, or never did. */
const nobodyThere = new Set(["ECONNREFUSED", "ENOENT"]);
/** For which an answer's headers are waited for; those of a call that goes on come at once. */
const mostHeadersMs = 60_000;
/** Between two ends of one connection, and nobody else's. Others that `Connection` may name are handed on: what frames a message must not be taken away by who sends it. */
const ofConnection = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
/** What a request without a body must not speak of. */
const ofBody = new Set(["content-length", "expect"]);

/** The socket of the coordinator that has the request's session; undefined where that is this one, or nobody who can be asked. */
export function siblingOf({ siblings }: DoorContext, { headers }: FastifyRequest): string | undefined {
  // the first part of a session's id is the coordinator that has it
  const coordinator = headerOf(headers, "mcp-session-id")?.split(".", 1)[0];
  return coordinator === undefined || coordinator === siblings?.me ? undefined : siblings?.of(coordinator);
}

interface Came {
  request: FastifyRequest;
  reply: FastifyReply;
}

export async function handOn(context: DoorContext, socketPath: string, { request, reply }: Came): Promise<FastifyReply> {
  const { method, raw } = request;
  const line = httpLine(reply.raw);
  // a stream without end must end when this coordinator does; its client asks for what it missed
  const call = method === "GET" ? context.calls.waiting(line) : context.calls.held(line);
  const headers = without(ofConnection, raw.headers);
  const asked = httpRequest({
    ...{ socketPath, method, path: request.url, agent: false, signal: call.signal },
    headers: { ...(method === "POST" ? headers : without(ofBody, headers)), connection: "keep-alive", "x-request-id": request.id },
  });
  let isAnswered = false;
  let cancelTimer = (): void => {};
  asked.once("finish", () => {
    if (!isAnswered) cancelTimer = context.clock.after(mostHeadersMs, () => asked.destroy());
  });
  try {
    const answered = Promise.withResolvers<IncomingMessage>();
    asked.on("response", answered.resolve).on("error", answered.reject);
    asked.on("close", () => answered.reject(new Error("no answer came")));
    // Node frames the body of a POST anew, and no other's
    if (method === "POST") raw.pipe(asked);
    else asked.end();
    const answer = await answered.promise;
    isAnswered = true;
    cancelTimer();
    reply.hijack();
    reply.raw.writeHead(answer.statusCode!, {
      ...without(ofConnection, answer.headers),
      ...(context.leaving() && { connection: "close" }),
    });
    reply.raw.flushHeaders(); // a stream may say nothing for long
    await handBack(answer, reply, call);
    if (context.draining()) raw.socket.destroySoon(); // its headers may have left before this coordinator did
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
    asked.destroy();
    // what is left of the body must not stand before the next request on its connection
    raw.unpipe();
    raw.resume();
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

function without(names: ReadonlySet<string>, headers: IncomingHttpHeaders | OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !names.has(name)));
}
