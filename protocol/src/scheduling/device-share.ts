/**
 * What part of a host's device time a queue gets where others have work on the same host: the figures behind a backlog's prediction. Hosts tell how long
 * they ran a queue's jobs, and how long they ran those of others while this queue had work; a model's share by right says less, because hosts
 * hold different models and each has work only now and then. Pure: times are arguments.
 */

import { staleAfterMs } from "./run-estimates.ts";

/** Of some runs of one queue on one host. */
export interface DeviceTime {
  /** When the last of them was claimed, by the store's clock. */
  atMs: number;
  runs: number;
  ownMs: number;
  /** That others had the device while jobs of this queue waited for those runs. */
  othersMs: number;
}

export interface DeviceShare {
  /** Above 0, up to 1: nobody else had work. */
  share: number;
  /** That others have the device before each of this queue's runs. */
  betweenMs: number;
}

/** Of both, the newer one being the second. */
export function together(before: DeviceTime | undefined, time: DeviceTime): DeviceTime {
  if (!before) return time;
  const { runs, ownMs, othersMs } = before;
  return { atMs: time.atMs, runs: runs + time.runs, ownMs: ownMs + time.ownMs, othersMs: othersMs + time.othersMs };
}

export const undivided: DeviceShare = { share: 1, betweenMs: 0 };

/** Reports that are kept of each device class. */
export const keptTimes = 64;
/** Hosts tell once a second: of each one report at least. */
const lastMs = 1_500;
/** Older ones count as well until there are so many runs. */
const enoughRuns = 20;

/** `times`: of all hosts of a class, oldest first. What is older than `staleAfterMs` says nothing of now. */
export function shareOf(times: readonly DeviceTime[], nowMs: number): DeviceShare {
  const newestMs = Math.max(...times.map(({ atMs }) => atMs));
  if (times.length === 0 || nowMs - newestMs > staleAfterMs) return undivided;
  let [runs, ownMs, othersMs] = [0, 0, 0];
  for (const time of times.toSorted((a, b) => b.atMs - a.atMs)) {
    if (nowMs - time.atMs > staleAfterMs || (newestMs - time.atMs > lastMs && runs >= enoughRuns)) break;
    runs += time.runs;
    ownMs += time.ownMs;
    othersMs += time.othersMs;
  }
  return ownMs > 0 && othersMs > 0 ? { share: ownMs / (ownMs + othersMs), betweenMs: othersMs / Math.max(1, runs) } : undivided;
}
