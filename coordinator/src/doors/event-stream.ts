/**
 * Server-sent events: headers, keep-alive, and the end. A reader that falls too far behind is dropped and comes back by itself; one whose key
 * is no longer good is dropped at the next look.
 */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { DoorContext } from "./door-context.ts";
import { isStillAllowed } from "./guard.ts";
import { httpLine } from "./open-calls.ts";
import { traceIdOf } from "./traced-requests.ts";

export const keepAliveMs = 15_000;
const reconnectMs = 2_000;
const maxBehindBytes = 1_048_576;

export interface EventStream {
  /** Aborts when the reader goes away, or this coordinator tells its readers to go elsewhere. */
  readonly signal: AbortSignal;
  send(event: { id: string | number; event: string; data: string }): void;
  keepAlive(): void;
  /** Whether nothing more should be sent. */
  isOver(): boolean;
}

/** Answers with what `tell` sends until it resolves. */
export async function answerStream(
  context: DoorContext,
  { request, reply }: { request: FastifyRequest; reply: FastifyReply },
  tell: (stream: EventStream) => Promise<void>,
): Promise<FastifyReply> {
  const headers = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  };
  if (request.method === "HEAD") return reply.headers(headers).send();
  reply.hijack();
  const { raw } = reply;
  const call = context.calls.waiting(httpLine(raw));
  raw.writeHead(200, { ...(reply.getHeaders() as Record<string, string>), ...headers });
  const write = (text: string): void => {
    raw.write(text);
    if (raw.writableLength > maxBehindBytes) raw.destroy();
  };
  write(`retry: ${reconnectMs}\n\n`);
  try {
    await tell({
      signal: call.signal,
      send: ({ id, event, data }) => write(`id: ${id}\nevent: ${event}\ndata: ${data}\n\n`),
      keepAlive: () => write(": keep-alive\n\n"),
      isOver: () => call.signal.aborted || raw.destroyed || !isStillAllowed(request),
    });
  } catch (error) {
    // The stream has begun, so there is no status to say it with: the reader reconnects and is told then.
    if (!(error instanceof SwitchyardError)) {
      context.log.error("event_stream_failed", {
        trace_id: traceIdOf(request),
        path: request.routeOptions.url ?? "",
        error: String(error),
      });
    }
  } finally {
    call.end();
    const { socket } = request.raw;
    raw.end(() => {
      if (context.draining()) socket.destroySoon(); // the stream's headers could not say that its connection ends
    });
  }
  return reply;
}
