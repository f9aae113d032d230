/**
 * What coordinators and hosts say of one job, line by line, as their logs have it at the level `debug` (job-journal.ts here, attempt-journal.ts of
 * hosts). It is made from the job's record and what was noted of its earlier attempts, so that a job that succeeds at once costs nothing more, and
 * it is there whatever the level of the logs, from any coordinator. Pure.
 */

import type { JobLogView, TimelineView } from "@switchyard/protocol";
import type { Caller } from "./caller.ts";
import { type JobHistory, timelineOf } from "./job-timeline.ts";

type Line = JobLogView["lines"][number];
type Event = TimelineView["events"][number];
type Fields = Record<string, string | number | undefined>;
type Told = Omit<Line, "at" | "fields"> & { fields: Fields };

export function jobLogOf(history: JobHistory, caller: Caller): JobLogView {
  const { events, id, untold_attempts: untold } = timelineOf(history, caller);
  const lines: Line[] = [];
  let [host, ran]: [string | undefined, Event | undefined] = [undefined, undefined];
  for (const event of events) {
    if (event.event === "started") host = event.host;
    if (event.event === "ran") ran = event;
    for (const told of linesFor(event, { history, ran })) lines.push(lineOf({ at: event.at, host }, told));
    if (event.event !== "ran") ran = undefined;
  }
  return { id, lines, ...(untold !== undefined && { untold_attempts: untold }) };
}

/** `host`: of the attempt that was the last to begin. */
function lineOf({ at, host }: { at: string; host: string | undefined }, { fields, ...told }: Told): Line {
  const said = Object.entries(fields).filter((field): field is [string, string | number] => field[1] !== undefined);
  return { at, ...told, ...(told.source === "host" && host !== undefined && { host }), fields: Object.fromEntries(said) };
}

/** `ran`: the run that this event ends. */
function linesFor(event: Event, { history: { record }, ran }: { history: JobHistory; ran: Event | undefined }): Told[] {
  const run = { run_ms: ran?.run_ms, batch_items: ran?.batch_items };
  const why = { code: event.error?.code, detail: event.error?.detail };
  const { attempt } = event;
  switch (event.event) {
    case "admitted":
      return [{ source: "coordinator", level: "info", event: "job_queued", fields: termsOf(record) }];
    case "started":
      return [{ source: "host", level: "info", event: "job_running", fields: { attempt } }];
    case "attempt_failed":
      return [{ source: "host", level: "warn", event: "attempt_ended", fields: { attempt, end: "retried", ...run, ...why } }];
    case "handed_back":
      return [{ source: "host", level: "info", event: "attempt_ended", fields: { attempt, end: "handed_back" } }];
    case "host_lost":
      return [{ source: "coordinator", level: "warn", event: "host_lost", fields: { attempt, host: event.host } }];
    case "claim_lost":
      return [{ source: "coordinator", level: "info", event: "claim_returned", fields: { attempt, host: event.host } }];
    case "succeeded":
    case "failed":
    case "cancelled":
    case "expired":
      return [...runEnd(event.event, { record, run, why: event.event === "failed" ? why : {} }), endOf(event.event, { record, why })];
    case "retried_from":
    case "ran":
    case "answered_from_cache":
      return []; // part of the next line
  }
}

function termsOf(record: JobHistory["record"]): Fields {
  const { createdMs, deadlineMs, durability, maxAttempts, model, retryOf, tenant, trace, version } = record;
  const terms = { class: record.class, tenant, timeout_ms: deadlineMs - createdMs, max_attempts: maxAttempts, durability };
  return { model, version, ...terms, retry_of: retryOf, trace_id: trace?.context.traceId };
}

interface End {
  record: JobHistory["record"];
  why: Record<string, string | undefined>;
}

/** What the host of the last attempt said, where it ran the job to its end. */
function runEnd(end: string, { record, run, why }: End & { run: Record<string, number | undefined> }): Told[] {
  if (run.run_ms === undefined) return [];
  const fields = { attempt: record.attempt, end, ...run, ...why };
  return [{ source: "host", level: end === "failed" ? "warn" : "info", event: "attempt_ended", fields }];
}

const levels = { succeeded: "info", cancelled: "info", failed: "error", expired: "warn" } as const;

function endOf(state: keyof typeof levels, { record, why }: End): Told {
  const { timings } = record;
  const times = timings && { queue_ms: timings.queueMs, run_ms: timings.runMs, total_ms: timings.totalMs, batch_items: timings.batchItems };
  return { source: "coordinator", level: levels[state], event: `job_${state}`, fields: { attempt: record.attempt, ...times, ...why } };
}
