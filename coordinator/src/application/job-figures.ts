/** What is counted of a job that has ended, from its notice. Pure. */

import type { JobNotice } from "../ports/job-store.ts";
import type { Finished } from "../ports/metrics.ts";

export function figuresOf(notice: JobNotice): Finished {
  const { batchItems, createdMs, deadlineMs, finishedMs, items, runMs, startedMs, state, tenant } = notice;
  const figures: Finished = {
    e2eSeconds: (finishedMs - createdMs) / 1_000,
    // who takes a job back misses nothing by it
    missed: state === "expired" || (state !== "cancelled" && finishedMs > deadlineMs),
    tenant,
  };
  if (startedMs > 0) figures.queueSeconds = (startedMs - createdMs) / 1_000;
  if (batchItems > 0) figures.deviceSeconds = (runMs * items) / batchItems / 1_000;
  if (notice.trace?.context.isSampled) figures.traceId = notice.trace.context.traceId;
  return figures;
}
