/** The job as /v1 shows it, from its record. */

import type { DeadLetterView, JobView } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";
import type { DeadLetter } from "../application/job-service.ts";
import { cachedHow } from "../application/new-record.ts";
import type { JobRecord } from "../ports/job-store.ts";

export function toJobView(record: JobRecord, caller: Caller): JobView {
  const self = `/v1/jobs/${record.id}`;
  const view: JobView = {
    id: record.id,
    state: record.state,
    model: record.model,
    version: record.version,
    class: record.class,
    durability: record.durability ?? "fast",
    attempt: record.attempt,
    created_at: timestamp(record.createdMs),
    deadline: timestamp(record.deadlineMs),
    links: { self, result: `${self}/result`, events: `${self}/events` },
  };
  if (record.startedMs) view.started_at = timestamp(record.startedMs);
  if (record.finishedMs) view.finished_at = timestamp(record.finishedMs);
  if (record.timings !== undefined) {
    const { queueMs, runMs, totalMs, batchItems } = record.timings;
    view.timings = { queue_ms: queueMs, run_ms: runMs, total_ms: totalMs, batch_items: batchItems };
  }
  if (cachedHow(record) !== undefined) view.cached = true;
  if (record.error !== undefined) view.error = record.error;
  if (record.tags !== undefined && Object.keys(record.tags).length > 0) view.tags = record.tags;
  if (record.retryOf !== undefined) view.retry_of = record.retryOf;
  if (record.trace !== undefined) view.trace_id = record.trace.context.traceId;
  if (record.hostId && caller.scopes.has("operate")) view.host = record.hostId;
  return view;
}

export function toDeadLetterView({ record, inputsKept }: DeadLetter, caller: Caller): DeadLetterView {
  return { ...toJobView(record, caller), hosts_died: record.deaths, inputs_kept: inputsKept };
}

function timestamp(ms: number): string {
  return new Date(ms).toISOString();
}
