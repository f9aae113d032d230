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

/** `nowMs`: the store's clock at the start of the run, never earlier than it is. Without a ladder only what is over is late. */
export function splitLate<Job extends TimedJob>(
  jobs: readonly Job[],
  how: { nowMs: number; ladder: Ladder | undefined },
): { inTime: Job[]; late: Job[] } {
  const late: Job[] = [];
  const inTime = [...jobs].sort((a, b) => b.deadlineMs - a.deadlineMs);
  let items = inTime.reduce((sum, job) => sum + job.items, 0);
  for (let first = inTime.at(-1); first; first = inTime.at(-1)) {
    const isOver = first.deadlineMs <= how.nowMs || (how.ladder !== undefined && first.deadlineMs < how.nowMs + runMs(how.ladder, items));
    if (!isOver) break;
    late.push(first);
    items -= first.items;
    inTime.pop();
  }
  if (late.length === 0) return { inTime: [...jobs], late };
  return { inTime: jobs.filter((job) => inTime.includes(job)), late };
}
