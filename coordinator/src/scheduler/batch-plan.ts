/**
 * What a claim may take: which jobs it must drop, how far a batch may grow, and whether to wait for more. Pure; the figures are those that
 * the claiming host sent. Without a ladder nothing is predicted, and only what is over is dropped.
 */

import { bucketOf, type JobClass, type Ladder, runMs } from "@switchyard/protocol";

export interface ClaimFigures {
  nowMs: number;
  /** Run times of this size of job on the claiming host. */
  ladder: Ladder | undefined;
  overheadMs: number;
  maxItems: number;
  /** How long the oldest job may wait for company; 0: not at all. */
  delayMs: number;
  /** Jobs that wait in the queue when the claim begins and could share a batch with the job at hand, see `waitingAlike`. */
  waitingJobs: number;
}

export interface Candidate {
  items: number;
  deadlineMs: number;
}

/** Time between the last moment to wait and the last moment to start. */
const deferMarginMs = 5;
/** How much of its time a job of the class interactive may spend on waiting for company, and any job of which no run time is known. */
const waitShare = 0.1;

function finishMs({ nowMs, ladder, overheadMs }: ClaimFigures, items: number): number {
  return ladder ? nowMs + runMs(ladder, items) + overheadMs : nowMs;
}

/**
 * How many of all that wait could share a batch with a job, by the share of its shape among others that were looked at. `seen` and `alike` count
 * the job itself.
 */
export function waitingAlike(waitingJobs: number, { seen, alike }: { seen: number; alike: number }): number {
  return seen < 2 ? waitingJobs : 1 + ((waitingJobs - 1) * (alike - 1)) / (seen - 1);
}

/**
 * The smallest batch that is worth running while so many wait: half of them, as a power of two. Under overload the jobs at the head are always
 * nearly late. Batches that shrink to save them cost many others, and the queue ends up running jobs one by one.
 */
export function leastBatch({ waitingJobs, maxItems }: ClaimFigures): number {
  let items = 1;
  while (2 * items <= maxItems && 4 * items <= waitingJobs) items *= 2;
  return items;
}

/** Whether a job would be late in the smallest batch that is worth running. */
export function cannotFinish(job: Candidate, figures: ClaimFigures): boolean {
  return job.deadlineMs <= figures.nowMs || finishMs(figures, Math.max(job.items, leastBatch(figures))) > job.deadlineMs;
}

/** Whether the batch with this job ends in time for all of them. `batch.deadlineMs` is the earliest of its members. */
export function mayJoin(batch: Candidate, job: Candidate, figures: ClaimFigures): boolean {
  return finishMs(figures, batch.items + job.items) <= Math.min(batch.deadlineMs, job.deadlineMs);
}

/** How long a job that has just come may be left to a batch that fills: no longer than it would wait itself. */
export function longestWaitMs(job: { class: JobClass; timeoutMs: number; latestStartMs: number }): number {
  return job.class === "interactive" ? Math.min(job.latestStartMs, waitShare * job.timeoutMs) : job.latestStartMs;
}

export interface Head {
  class: JobClass;
  createdMs: number;
  deadlineMs: number;
  /** No company can come. */
  runsAlone: boolean;
}

/** Until when it is better to let the queue fill than to run what waits; nothing if that moment has passed. `heads`: the first of each flow. */
export function deferUntil(heads: readonly Head[], waitingItems: number, figures: ClaimFigures): number | undefined {
  const { delayMs, maxItems, nowMs, overheadMs, ladder } = figures;
  if (delayMs <= 0 || waitingItems >= maxItems || heads.length === 0 || heads.some(({ runsAlone }) => runsAlone)) return undefined;
  const nextRunMs = runMs(ladder, bucketOf(waitingItems + 1));
  let untilMs = Number.POSITIVE_INFINITY;
  for (const { class: one, createdMs, deadlineMs } of heads) {
    untilMs = Math.min(untilMs, createdMs + delayMs, deadlineMs - nextRunMs - overheadMs - deferMarginMs);
    if (one === "interactive" || !ladder) untilMs = Math.min(untilMs, createdMs + waitShare * (deadlineMs - createdMs));
  }
  return untilMs > nowMs ? Math.floor(untilMs) : undefined;
}
