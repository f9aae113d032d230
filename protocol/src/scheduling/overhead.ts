/** What a job costs beside its run (claim, transfer, commit) on one host, by one clock: a moving mean and three deviations. */

export interface Overhead {
  meanMs: number;
  variance: number;
  samples: number;
}

export const noOverhead: Overhead = { meanMs: 0, variance: 0, samples: 0 };
/** Promised before anything was measured. */
const firstGuessMs = 5;
const weight = 0.05;
/** A sample counts for so many times what was promised at most: one stall says nothing of the next claim, many of a kind are heard. */
const mostTimes = 3;

/** `sampleMs`: commit − claim − run of one batch. The first samples weigh as in a plain mean. */
export function withOverhead(before: Overhead, sampleMs: number): Overhead {
  const samples = before.samples + 1;
  const share = Math.max(weight, 1 / samples);
  const heardMs = Math.min(sampleMs, mostTimes * overheadMs(before) + firstGuessMs);
  const off = heardMs - before.meanMs;
  return { meanMs: before.meanMs + share * off, variance: (1 - share) * (before.variance + share * off * off), samples };
}

export function overheadMs({ meanMs, variance, samples }: Overhead): number {
  return samples === 0 ? firstGuessMs : Math.max(0, meanMs + 3 * Math.sqrt(variance));
}
