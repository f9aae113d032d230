/** How a job's end is told to a caller who waited for it. Pure. */

import { SwitchyardError } from "@switchyard/protocol";
import type { JobNotice, JobRecord } from "../ports/job-store.ts";

/** The record as it is by what the notice of its end says. */
export function withNotice(record: JobRecord, notice: JobNotice): JobRecord {
  const ended: JobRecord = {
    ...record,
    state: notice.state,
    revision: notice.revision,
    fence: notice.fence,
    attempt: notice.attempt,
    finishedMs: notice.finishedMs,
    timings: {
      queueMs: (notice.startedMs || notice.finishedMs) - notice.createdMs,
      runMs: notice.runMs,
      totalMs: notice.finishedMs - notice.createdMs,
      batchItems: notice.batchItems,
    },
  };
  if (notice.startedMs) ended.startedMs = notice.startedMs;
  if (notice.error) ended.error = notice.error;
  return ended;
}

/** What a caller who held the line hears of an outcome other than success. */
export function outcomeError(record: JobRecord): SwitchyardError {
  const detail = record.error?.detail ?? `the job is ${record.state}`;
  const facts = { jobId: record.id, extra: { state: record.state, error: record.error } };
  if (record.state === "expired") return new SwitchyardError("expired", detail, facts);
  if (record.state === "cancelled") return new SwitchyardError("cancelled", detail, facts);
  const code = record.error?.code;
  const known = code === "poison" || code === "input_lost" || code === "model_not_ready" ? code : "run_failed";
  return new SwitchyardError(known, detail, facts);
}
