/** Between the record as Redis keeps it (a flat hash, see lua/admit.lua) and the JobRecord that the application reads. */

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

export function traitsOf(job: NewJob): string {
  const traits: Traits = { m: job.model, v: job.version };
  if (job.tags) traits.tags = job.tags;
  if (job.outputs) traits.out = job.outputs;
  if (job.requestId) traits.rid = job.requestId;
  return JSON.stringify(traits);
}

export function fieldsOf(flat: readonly unknown[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let at = 0; at + 1 < flat.length; at += 2) fields[String(flat[at])] = String(flat[at + 1]);
  return fields;
}

export function recordOf(id: string, fields: Record<string, string>): JobRecord {
  const traits = JSON.parse(fields.traits ?? "{}") as Traits;
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
    tenant: fields.tenant ?? "default",
    createdMs: Number(fields.created),
    deadlineMs: Number(fields.deadline),
    ttlMs: Number(fields.ttl),
    held: fields.held === "1",
  };
  if (fields.started) record.startedMs = Number(fields.started);
  if (fields.finished) {
    record.finishedMs = Number(fields.finished);
    record.timings = {
      queueMs: (record.startedMs ?? record.finishedMs) - record.createdMs,
      runMs: Number(fields.run_ms),
      totalMs: record.finishedMs - record.createdMs,
      batchItems: Number(fields.batch_items),
    };
  }
  // a queued job may carry the error of its last attempt; only an outcome shows it
  if (fields.error && fields.finished && state !== "succeeded") record.error = JSON.parse(fields.error) as JobError;
  if (fields.host) record.hostId = fields.host;
  if (traits.tags) record.tags = traits.tags;
  if (traits.out) record.outputs = traits.out;
  if (traits.rid) record.requestId = traits.rid;
  return record;
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
];

/** The message that lua/lib-finish.lua publishes. */
export function noticesOf(message: string): JobNotice[] {
  return (JSON.parse(message) as NoticeRow[]).map((row) => {
    const [id, state, revision, fence, createdMs, startedMs, finishedMs, deadlineMs, attempt, runMs, batchItems, jobClass, error] = row;
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
    };
    if (error !== "") notice.error = JSON.parse(error) as JobError;
    return notice;
  });
}
