/**
 * A line of the log for each change of a job's state that this coordinator makes or counts. Only made where the log wants lines this fine:
 * they cost a write for each job. Hosts write those of attempts.
 */

import type { ErrorCode } from "@switchyard/protocol";
import type { JobNotice, NewJob } from "../ports/job-store.ts";
import type { LogFields } from "../ports/log.ts";

export class JobJournal {
  readonly #write: (event: string, fields: LogFields) => void;

  constructor(write: (event: string, fields: LogFields) => void) {
    this.#write = write;
  }

  queued(job: NewJob): void {
    const { id, items, model, tenant, timeoutMs, trace, version } = job;
    const facts = { job_id: id, model, version, class: job.class, tenant, items, timeout_ms: timeoutMs };
    this.#write("job_queued", { ...facts, trace_id: trace?.context.traceId });
  }

  refused(job: NewJob, code: ErrorCode): void {
    const { id, model, tenant, trace, version } = job;
    this.#write("job_refused", { job_id: id, model, version, class: job.class, tenant, code, trace_id: trace?.context.traceId });
  }

  /** To be told by the coordinator that counts it. */
  ended(notice: JobNotice, model: string | undefined): void {
    const { attempt, batchItems, createdMs, error, finishedMs, id, runMs, startedMs, state, trace } = notice;
    const times = { queue_ms: (startedMs || finishedMs) - createdMs, run_ms: runMs, total_ms: finishedMs - createdMs };
    const facts = { job_id: id, model, class: notice.class, attempt, ...times, batch_items: batchItems, code: error?.code };
    this.#write(`job_${state}`, { ...facts, trace_id: trace?.context.traceId });
  }
}
