/**
 * The life of one job as server-sent events: the id is the record's revision, the event its state, the data its view. States that pass
 * between two looks are skipped, the last never is. A reader that falls too far behind is dropped and resumes by Last-Event-ID; one whose
 * key is no longer good is dropped at the next look, 15 s later at most.
 */

import { isTerminal } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { JobRecord } from "../ports/job-store.ts";
import type { DoorContext } from "./door-context.ts";
import { answerStream, type EventStream, keepAliveMs } from "./event-stream.ts";
import { callerOf, isStillAllowed } from "./guard.ts";
import { toJobView } from "./job-view.ts";
import { headerOf } from "./request-options.ts";

export async function answerEvents(context: DoorContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string };
  const seen = lastSeen(request);
  const record = await context.jobs.get(id, callerOf(request));
  // 204 is how a server tells an EventSource that there is nothing to come back for.
  if (isTerminal(record.state) && seen === record.revision) return reply.code(204).send();
  return answerStream(context, { request, reply }, (events) => stream(context, { request, events }, { record, seen }));
}

function lastSeen(request: FastifyRequest): number | undefined {
  const query = (request.query as Record<string, unknown>).last_event_id;
  const text = headerOf(request.headers, "last-event-id") ?? (typeof query === "string" ? query : "");
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

async function stream(
  context: DoorContext,
  { request, events }: { request: FastifyRequest; events: EventStream },
  from: { record: JobRecord; seen: number | undefined },
): Promise<void> {
  const { signal } = events;
  let { record, seen } = from;
  for (;;) {
    if (record.revision !== seen) {
      events.send({ id: record.revision, event: record.state, data: JSON.stringify(toJobView(record, callerOf(request))) });
      seen = record.revision;
    } else events.keepAlive();
    if (isTerminal(record.state) || events.isOver()) return;
    record = await context.jobs.wait(record.id, { waitMs: keepAliveMs, afterRevision: seen, signal }, callerOf(request));
    if ((signal.aborted && record.revision === seen) || !isStillAllowed(request)) return;
  }
}
