/**
 * Requests of a session that another coordinator has, which shares this one's address: clients cannot choose whom of them they reach, so what
 * comes here is handed on, and its answer handed back as it comes. Nothing of it is read here but the session's id.
 */

import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { pipeline } from "node:stream";
import { promisify } from "node:util";
import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { DoorContext } from "../door-context.ts";
import type { Place } from "../listening.ts";
import { httpLine } from "../open-calls.ts";
import { headerOf } from "../request-options.ts";
import { unknownSession } from "./session-words.ts";

/** Of ids of sessions: the coordinator that has it. */
const named = /^([a-z2-7]{26})\./;

/** Where the coordinator is that has the request's session; undefined where it is this one, or nobody who can be asked. */
export async function siblingOf({ siblings }: DoorContext, { headers }: FastifyRequest): Promise<Place | undefined> {
  const [, coordinator] = named.exec(headerOf(headers, "mcp-session-id") ?? "") ?? [];
  if (siblings === undefined || coordinator === undefined || coordinator === siblings.me) return undefined;
  return siblings.placeOf(coordinator);
}

const piped = promisify(pipeline);

export async function handOn(
  context: DoorContext,
  place: Place,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
): Promise<FastifyReply> {
  const { raw } = request;
  const headers = { ...raw.headers, "x-request-id": request.id };
  const line = httpLine(reply.raw);
  // a stream without end must end when this coordinator does; its client asks for what it missed
  const call = request.method === "GET" ? context.calls.waiting(line) : context.calls.held(line);
  try {
    const asked = httpRequest({ ...place, method: request.method, path: request.url, headers, agent: false, signal: call.signal });
    raw.pipe(asked);
    const answer = await new Promise<IncomingMessage | undefined>((resolve) => {
      asked.on("response", resolve).on("error", () => resolve(undefined));
    });
    if (answer === undefined) {
      if (call.toldToGo()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
      return reply
        .code(404)
        .header("content-type", "application/json")
        .send(Buffer.from(JSON.stringify(unknownSession)));
    }
    reply.hijack();
    reply.raw.writeHead(answer.statusCode ?? 502, withoutConnection(answer, context.leaving()));
    reply.raw.flushHeaders(); // a stream may say nothing for long
    await piped(answer, reply.raw).catch(() => reply.raw.destroy());
    return reply;
  } finally {
    call.end();
  }
}

/** Whether a connection stays open is each side's own affair. */
function withoutConnection({ headers }: IncomingMessage, isLeaving: boolean): OutgoingHttpHeaders {
  const { connection: _connection, "keep-alive": _keepAlive, "transfer-encoding": _encoding, ...others } = headers;
  return { ...others, ...(isLeaving && { connection: "close" }) };
}
