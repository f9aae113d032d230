/** The record of a job that the store has just taken, without asking for it again; and what its fence tells. */

import type { JobRecord, NewJob } from "../ports/job-store.ts";

export function newRecord(job: NewJob, now: Pick<JobRecord, "state" | "createdMs" | "deadlineMs">): JobRecord {
  const { id, maxAttempts, model, version, tenant, ttlMs, held } = job;
  const fresh = { revision: 1, fence: 0, attempt: 0, deaths: 0 };
  const record: JobRecord = { id, ...now, ...fresh, maxAttempts, model, version, class: job.class, tenant, ttlMs, held };
  if (job.tags) record.tags = job.tags;
  if (job.outputs) record.outputs = job.outputs;
  if (job.requestId) record.requestId = job.requestId;
  if (job.retryOf) record.retryOf = job.retryOf;
  if (job.durability) record.durability = job.durability;
  if (job.trace) record.trace = job.trace;
  return record;
}

/** How a success came about that no host worked for: known before it was asked for, or shared with an equal job that was under way. */
export function cachedHow({ fence, revision, state }: Pick<JobRecord, "fence" | "revision" | "state">): "hit" | "joined" | undefined {
  if (state !== "succeeded" || fence > 0) return undefined;
  return revision === 1 ? "hit" : "joined";
}
