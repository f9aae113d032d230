/**
 * The life of one job as server-sent events: the id is the record's revision, the event its state, the data its view. States that pass
 * between two looks are skipped, the last never is. A reader that falls too far behind is dropped and resumes by Last-Event-ID; one whose
 * key is no longer good is dropped at the next look, 15 s later at most.
 */

import { isTerminal, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { JobRecord } from "../ports/job-store.ts";
import type { DoorContext } from "./door-context.ts";
import { callerOf, isStillAllowed } from "./guard.ts";
import { toJobView } from "./job-view.ts";
import { httpLine, type OpenCall } from "./open-calls.ts";
import { headerOf } from "./request-options.ts";

const keepAliveMs = 15_000;
const reconnectMs = 2_000;
const maxBehindBytes = 1_048_576;

export async function answerEvents(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string };
  const seen = lastSeen(request);
  const record = await context.jobs.get(id, callerOf(request));
  // 204 is how a server tells an EventSource that there is nothing to come back for.
  if (isTerminal(record.state) && seen === record.revision) return reply.code(204).send();
  const headers = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  };
  if (request.method === "HEAD") return reply.headers(headers).send();
  reply.hijack();
  const call = context.calls.waiting(httpLine(reply.raw));
  reply.raw.writeHead(200, { ...(reply.getHeaders() as Record<string, string>), ...headers });
  reply.raw.write(`retry: ${reconnectMs}\n\n`);
  try {
    await stream(context, { request, reply }, { record, seen, call });
  } catch (error) {
    // The stream has begun, so there is no status to say it with: the reader reconnects and is told then.
    if (!(error instanceof SwitchyardError)) {
      context.log.error("event_stream_failed", { trace_id: request.id, job_id: id, error: String(error) });
    }
  } finally {
    call.end();
    const { socket } = request.raw;
    reply.raw.end(() => {
      if (context.draining()) socket.destroySoon(); // the stream's headers could not say that its connection ends
    });
  }
  return reply;
}

function lastSeen(request: FastifyRequest): number | undefined {
  const query = (request.query as Record<string, unknown>).last_event_id;
  const text = headerOf(request.headers, "last-event-id") ?? (typeof query === "string" ? query : "");
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

async function stream(
  context: DoorContext,
  { request, reply: { raw } }: { request: FastifyRequest; reply: FastifyReply },
  from: { record: JobRecord; seen: number | undefined; call: OpenCall },
): Promise<void> {
  const { call } = from;
  let { record, seen } = from;
  for (;;) {
    if (record.revision !== seen) {
      const view = JSON.stringify(toJobView(record, callerOf(request)));
      raw.write(`id: ${record.revision}\nevent: ${record.state}\ndata: ${view}\n\n`);
      seen = record.revision;
    } else raw.write(": keep-alive\n\n");
    if (raw.writableLength > maxBehindBytes) raw.destroy();
    if (isTerminal(record.state) || call.signal.aborted || raw.destroyed) return;
    record = await context.jobs.wait(record.id, { waitMs: keepAliveMs, afterRevision: seen, signal: call.signal }, callerOf(request));
    if ((call.signal.aborted && record.revision === seen) || !isStillAllowed(request)) return;
  }
}
