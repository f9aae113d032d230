/** Between the record as Redis keeps it (a string of words, see lua/lib-record.lua) and the JobRecord that the application reads. */

import type { JobClass, JobError, JobState } from "@switchyard/protocol";
import type { JobNotice, JobRecord, NewJob, TombState } from "../ports/job-store.ts";

/** What only views show: fixed at admission, never compared by a script. */
interface Traits {
  m: string;
  v: number;
  tags?: Record<string, string>;
  out?: JobRecord["outputs"];
  rid?: string;
}

function traitsOf(job: NewJob): string {
  const traits: Traits = { m: job.model, v: job.version };
  if (job.tags) traits.tags = job.tags;
  if (job.outputs) traits.out = job.outputs;
  if (job.requestId) traits.rid = job.requestId;
  return JSON.stringify(traits);
}

/** The record's words in order, the same as in lua/lib-record.lua; the last one is the rest of the string: traits, and the error after a newline. */
const words = [
  "state",
  "revision",
  "fence",
  "failures",
  "deaths",
  "attempt",
  "class",
  "order",
  "created",
  "deadline",
  "started",
  "finished",
  "maxAttempts",
  "items",
  "ttl",
  "held",
  "runMs",
  "batchItems",
  "incarnation",
  "host",
  "waiters",
  "shape",
  "tenant",
] as const;

type Word = (typeof words)[number];

/** The words from `maxAttempts` to `host` of a job that was never claimed; lua/admit.lua puts the others around them. */
export function termsOf(job: NewJob): string {
  return `${job.maxAttempts} ${job.items} ${job.ttlMs} ${job.held ? 1 : 0} 0 0 - -`;
}

/** The words from `shape` on. Names may hold white space; words may not. */
export function lastWordsOf(job: NewJob): string {
  // a model without inputs has no shape, and words are never empty
  return `${encodeURI(job.shapeClass) || "-"} ${encodeURIComponent(job.tenant)} ${traitsOf(job)}`;
}

export function recordOf(id: string, text: string): JobRecord {
  let at = 0;
  const fields = {} as Record<Word, string>;
  for (const word of words) {
    const end = text.indexOf(" ", at);
    fields[word] = text.slice(at, end);
    at = end + 1;
  }
  const [traitsText = "{}", errorText] = text.slice(at).split("\n");
  const traits = JSON.parse(traitsText) as Traits;
  const state = fields.state as JobState;
  const record: JobRecord = {
    id,
    state,
    revision: Number(fields.revision),
    fence: Number(fields.fence),
    attempt: Number(fields.attempt),
    model: traits.m,
    version: traits.v,
    class: fields.class as JobClass,
    tenant: decodeURIComponent(fields.tenant),
    createdMs: Number(fields.created),
    deadlineMs: Number(fields.deadline),
    ttlMs: Number(fields.ttl),
    held: fields.held === "1",
  };
  if (fields.started !== "0") record.startedMs = Number(fields.started);
  if (fields.finished !== "0") {
    record.finishedMs = Number(fields.finished);
    record.timings = {
      queueMs: (record.startedMs ?? record.finishedMs) - record.createdMs,
      runMs: Number(fields.runMs),
      totalMs: record.finishedMs - record.createdMs,
      batchItems: Number(fields.batchItems),
    };
    // a queued job may carry the error of its last attempt; only an outcome shows it
    if (errorText && state !== "succeeded") record.error = JSON.parse(errorText) as JobError;
  }
  if (fields.host !== "-") record.hostId = decodeURIComponent(fields.host);
  if (traits.tags) record.tags = traits.tags;
  if (traits.out) record.outputs = traits.out;
  if (traits.rid) record.requestId = traits.rid;
  return record;
}

/** State and revision alone. */
export function standingOf(text: string): { state: JobState; revision: number } {
  const [state, revision] = text.split(" ", 2);
  return { state: state as JobState, revision: Number(revision) };
}

export function tombOf(text: string): TombState {
  const [state, finished] = text.split(" ");
  return { state: state as JobState, finishedMs: Number(finished) };
}

type NoticeRow = [
  id: string,
  state: JobState,
  revision: number,
  fence: number,
  createdMs: number,
  startedMs: number,
  finishedMs: number,
  deadlineMs: number,
  attempt: number,
  runMs: number,
  batchItems: number,
  jobClass: JobClass,
  error: string,
  counts: 0 | 1,
];

/** The message that lua/lib-finish.lua publishes. */
export function noticesOf(message: string): JobNotice[] {
  return (JSON.parse(message) as NoticeRow[]).map((row) => {
    const [id, state, revision, fence, createdMs, startedMs, finishedMs, deadlineMs, attempt, runMs, batchItems, jobClass, error, counts] =
      row;
    const notice: JobNotice = {
      id,
      state,
      revision,
      fence,
      createdMs,
      startedMs,
      finishedMs,
      deadlineMs,
      attempt,
      runMs,
      batchItems,
      class: jobClass,
      counts: counts === 1,
    };
    if (error !== "") notice.error = JSON.parse(error) as JobError;
    return notice;
  });
}
