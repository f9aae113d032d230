/** A batch that a claim in memory fills: jobs of one shape class, or one that runs alone, up to so many items and jobs. */

import type { Candidate } from "../scheduler/batch-plan.ts";
import type { MemoryJob } from "./memory-flows.ts";

const mostJobs = 500;

/** Inputs without a common axis 0 cannot be stacked. */
export const runsAlone = (job: MemoryJob): boolean => job.shapeClass.startsWith("=");

export class Batch implements Candidate {
  readonly jobs: MemoryJob[] = [];
  readonly maxItems: number;
  items = 0;
  deadlineMs = Number.POSITIVE_INFINITY;
  /** A candidate would have made it too long. */
  closed = false;

  constructor(maxItems: number) {
    this.maxItems = maxItems;
  }

  /** A job that is larger than a batch runs alone. */
  fits(job: MemoryJob): boolean {
    const [first] = this.jobs;
    if (!first) return true;
    return !runsAlone(first) && job.shapeClass === first.shapeClass && this.items + job.items <= this.maxItems;
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
