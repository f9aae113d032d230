/** A batch that a claim in memory fills: jobs of one shape class, or one that runs alone, up to so many items and jobs. */

import type { Candidate } from "../scheduler/batch-plan.ts";
import type { MemoryJob } from "./memory-flows.ts";

/** In one claim. */
export const mostJobs = 128;

/** Inputs without a common axis 0 cannot be stacked; and a job that may be what its host died of is kept apart from others. */
export const runsAlone = (job: MemoryJob): boolean => job.record.deaths > 0 || job.shapeClass.startsWith("=");

export class Batch implements Candidate {
  readonly jobs: MemoryJob[] = [];
  readonly maxItems: number;
  items = 0;
  deadlineMs = Number.POSITIVE_INFINITY;
  /** A candidate would have made it too long. */
  closed = false;
  readonly #isAhead: boolean;

  constructor(maxItems: number, isAhead: boolean) {
    this.maxItems = maxItems;
    this.#isAhead = isAhead;
  }

  /** A job that may be what its host died of is not claimed while another batch runs, and nothing overtakes it. */
  endsBefore({ record }: MemoryJob): boolean {
    return this.#isAhead && record.deaths > 0;
  }

  /** A job that is larger than a batch runs alone. */
  fits(job: MemoryJob): boolean {
    const [first] = this.jobs;
    if (!first) return true;
    if (runsAlone(first) || runsAlone(job)) return false;
    return job.shapeClass === first.shapeClass && this.items + job.items <= this.maxItems;
  }

  add(job: MemoryJob): void {
    this.jobs.push(job);
    this.items += job.items;
    this.deadlineMs = Math.min(this.deadlineMs, job.record.deadlineMs);
  }
}

/** Items that it may still take. */
export function maxRoom({ jobs, items, maxItems }: Batch): number {
  return jobs.length < mostJobs ? maxItems - items : 0;
}

export function candidateOf({ items, record }: MemoryJob): Candidate {
  return { items, deadlineMs: record.deadlineMs };
}
