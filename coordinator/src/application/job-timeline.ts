/**
 * What happened to a job, in order: of its last attempt as the record says, and of those before it as the store has noted them, see
 * lua/lib-attempts.lua. Pure.
 */

import { isTerminal, type TimelineView } from "@switchyard/protocol";
import type { EndedAttempt, JobRecord } from "../ports/job-store.ts";
import type { Caller } from "./caller.ts";
import { cachedHow } from "./new-record.ts";

export interface JobHistory {
  record: JobRecord;
  /** Those that let the job wait again, oldest first. */
  attempts: readonly EndedAttempt[];
}

type Event = TimelineView["events"][number];
/** `host` for whoever may see it. */
type Happening = Omit<Event, "at" | "after_ms"> & { atMs: number };

export function timelineOf(history: JobHistory, caller: Caller): TimelineView {
  const { record } = history;
  const { happenings, untold } = happeningsOf(history);
  let before = record.createdMs;
  const events = happenings.map(({ atMs, host, ...event }): Event => {
    const after = Math.round(1_000 * (atMs - before)) / 1_000;
    before = atMs;
    const shown = host !== undefined && caller.scopes.has("operate") ? { host } : {};
    return { at: new Date(atMs).toISOString(), after_ms: after, ...event, ...shown };
  });
  return { id: record.id, state: record.state, events, ...(untold > 0 && { untold_attempts: untold }) };
}

/** `untold`: claims of the job of which nothing is known any more. */
function happeningsOf({ attempts, record }: JobHistory): { happenings: Happening[]; untold: number } {
  const { attempt, createdMs, error, fence, finishedMs, hostId, startedMs, state, timings } = record;
  const happenings: Happening[] = [];
  if (record.retryOf !== undefined) happenings.push({ atMs: createdMs, event: "retried_from", job: record.retryOf });
  happenings.push({ atMs: createdMs, event: "admitted" });
  for (const one of attempts) happenings.push(...attemptHappenings(one));
  // the store wrote the last one down when the job went back to wait
  const isApart = startedMs !== undefined && !attempts.some((one) => one.fence === fence);
  if (isApart) happenings.push({ atMs: startedMs, event: "started", attempt, ...(hostId !== undefined && { host: hostId }) });
  if (isTerminal(state) && finishedMs !== undefined) {
    if (cachedHow(record) !== undefined) happenings.push({ atMs: finishedMs, event: "answered_from_cache" });
    else if (timings !== undefined && isApart) happenings.push(...runOf({ startedMs, endedMs: finishedMs, ...timings }));
    happenings.push({ atMs: finishedMs, event: state as Event["event"], ...(error && { error }) });
  }
  return { happenings, untold: Math.max(0, fence - attempts.length - (isApart ? 1 : 0)) };
}

const endings = {
  failed: "attempt_failed",
  handed_back: "handed_back",
  host_lost: "host_lost",
  claim_lost: "claim_lost",
} as const satisfies Record<EndedAttempt["end"], Event["event"]>;

function attemptHappenings(ended: EndedAttempt): Happening[] {
  const { attempt, end, endedMs, error, hostId: host, startedMs } = ended;
  return [
    { atMs: startedMs, event: "started", attempt, host },
    ...runOf(ended),
    { atMs: endedMs, event: endings[end], attempt, host, ...(error && { error }) },
  ];
}

/** The run of the batch that it was in, where there was one. */
function runOf(of: { startedMs: number; endedMs: number; runMs: number; batchItems: number }): Happening[] {
  const { batchItems, endedMs, runMs, startedMs } = of;
  if (batchItems === 0) return [];
  return [{ atMs: Math.min(endedMs, startedMs + runMs), event: "ran", run_ms: runMs, batch_items: batchItems }];
}
