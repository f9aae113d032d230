/** What happened to a job, in order, as its record says. A record keeps the last attempt only: of earlier ones there is the number. */

import { isTerminal, type TimelineView } from "@switchyard/protocol";
import type { JobRecord } from "../ports/job-store.ts";
import type { Caller } from "./caller.ts";
import { cachedHow } from "./new-record.ts";

type Event = TimelineView["events"][number];

export function timelineOf(record: JobRecord, caller: Caller): TimelineView {
  const { createdMs, error, finishedMs, startedMs, state, timings } = record;
  const events: (Omit<Event, "at" | "after_ms"> & { atMs: number })[] = [];
  if (record.retryOf !== undefined) events.push({ atMs: createdMs, event: "retried_from", job: record.retryOf });
  events.push({ atMs: createdMs, event: "admitted" });
  if (startedMs !== undefined) {
    const host = record.hostId !== undefined && caller.scopes.has("operate") ? { host: record.hostId } : {};
    events.push({ atMs: startedMs, event: "started", attempt: record.attempt, ...host });
  }
  if (isTerminal(state) && finishedMs !== undefined) {
    if (cachedHow(record) !== undefined) events.push({ atMs: finishedMs, event: "answered_from_cache" });
    else if (timings !== undefined && timings.batchItems > 0 && startedMs !== undefined) {
      const ran = { run_ms: timings.runMs, batch_items: timings.batchItems };
      events.push({ atMs: Math.min(finishedMs, startedMs + timings.runMs), event: "ran", ...ran });
    }
    events.push({ atMs: finishedMs, event: state as Event["event"], ...(error && { error }) });
  }
  let before = createdMs;
  return {
    id: record.id,
    state,
    events: events.map(({ atMs, ...event }) => {
      const after = Math.round(1_000 * (atMs - before)) / 1_000;
      before = atMs;
      return { at: new Date(atMs).toISOString(), after_ms: after, ...event };
    }),
  };
}
