/**
 * The last look before a run: reading inputs takes time, and what was in time at the claim may not be any more. Pure. What cannot end
 * before its deadline is split off, so that the rest runs sooner.
 */

import { type Ladder, runMs } from "@switchyard/protocol";

interface TimedJob {
  items: number;
  /** By the store's clock. */
  deadlineMs: number;
}

/** What any run is taken to need where nothing is known of it. One at a server begins only when the inputs have come there: with less left it would begin late. */
const leastRunMs = 5;

/** `nowMs`: the store's clock at the start of the run, never earlier than it is. Without a ladder what is over, or all but over, is late. */
export function splitLate<Job extends TimedJob>(
  jobs: readonly Job[],
  how: { nowMs: number; ladder: Ladder | undefined },
): { inTime: readonly Job[]; late: Job[] } {
  const { nowMs, ladder } = how;
  const endMs = (sharing: number): number => nowMs + (ladder === undefined ? leastRunMs : runMs(ladder, sharing));
  let [items, firstMs] = [0, Number.POSITIVE_INFINITY];
  for (const job of jobs) {
    items += job.items;
    firstMs = Math.min(firstMs, job.deadlineMs);
  }
  // the usual case
  if (firstMs > nowMs && firstMs >= endMs(items)) return { inTime: jobs, late: [] };
  const late: Job[] = [];
  const inTime = [...jobs].sort((a, b) => b.deadlineMs - a.deadlineMs);
  for (let first = inTime.at(-1); first; first = inTime.at(-1)) {
    if (first.deadlineMs > nowMs && first.deadlineMs >= endMs(items)) break;
    late.push(first);
    items -= first.items;
    inTime.pop();
  }
  return { inTime: jobs.filter((job) => inTime.includes(job)), late };
}
