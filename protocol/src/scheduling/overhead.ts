/**
 * What a job costs beside its run (claim, transfer, commit; or the way between coordinator and store), by one clock: a moving mean and twice the
 * mean distance from it, as TCP reckons its round trips. The tail of such times is long, and a standard deviation of it promises ten times
 * what nine in ten take.
 */

export interface Overhead {
  meanMs: number;
  /** Mean distance of samples from the mean. */
  deviationMs: number;
  /** That the mean stands for: so many at most as still weigh. */
  samples: number;
}

export const noOverhead: Overhead = { meanMs: 0, deviationMs: 0, samples: 0 };
/** Promised before anything was measured. */
const firstGuessMs = 5;
const weight = 0.05;
const deviations = 2;
/** A sample counts for so many times what was promised at most: one stall says nothing of the next claim, many of a kind are heard. */
const mostTimes = 3;

/** The first samples weigh as in a plain mean. A sample below the mean never makes the promise longer: it may widen no distance. */
export function withOverhead(before: Overhead, sampleMs: number): Overhead {
  const samples = Math.min(before.samples + 1, 1 / weight);
  const share = 1 / samples;
  const heardMs = Math.min(sampleMs, mostTimes * overheadMs(before) + firstGuessMs);
  const off = heardMs - before.meanMs;
  const distanceMs = off < 0 ? Math.min(-off, before.deviationMs) : off;
  const deviationMs = before.samples === 0 ? 0 : before.deviationMs + share * (distanceMs - before.deviationMs);
  return { meanMs: before.meanMs + share * off, deviationMs, samples };
}

/** What is known to have become shorter: what was measured counts for half, and what comes next as much as all before. */
export function halved({ meanMs, deviationMs, samples }: Overhead): Overhead {
  return { meanMs: meanMs / 2, deviationMs: deviationMs / 2, samples: Math.min(samples, 1) };
}

export function overheadMs({ meanMs, deviationMs, samples }: Overhead): number {
  return samples === 0 ? firstGuessMs : Math.max(0, meanMs + deviations * deviationMs);
}
