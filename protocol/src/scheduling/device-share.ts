/**
 * What part of its hosts' time a queue gets where others have work there: the figures behind a backlog's prediction. Hosts tell how long they ran a queue's
 * jobs, and how long they ran others while those jobs waited. What is a queue's by right, its part among those that have work, is what a backlog gets at
 * least; it gets more where others have work only now and then. Pure: times are arguments.
 */

import { staleAfterMs } from "./run-estimates.ts";

/** Of some runs of one queue on one host. */
export interface DeviceTime {
  /** When the last of them was over, by the store's clock. */
  atMs: number;
  runs: number;
  ownMs: number;
  /** That others had the device while jobs of this queue waited for those runs. */
  othersMs: number;
  /** Queues that the time was divided among, this one included. */
  sharers: number;
}

export interface DeviceSharing {
  /** Of the hosts' time, on average over hosts; above 0, and 1 where nobody else had work. */
  share: number;
  /** That others have the device before each of this queue's runs. */
  betweenMs: number;
}

export const undivided: DeviceSharing = { share: 1, betweenMs: 0 };

/** Reports that are kept of each device class: of twice as many hosts the newest half speak. */
export const keptTimes = 128;
/** A host tells so often at most. */
export const timeEveryMs = 1_000;
/** Of each host that runs the queue's jobs one report at least. */
const lastMs = 1.5 * timeEveryMs;
/** Older ones count as well until there are so many runs. */
const enoughRuns = 20;

/** Of both, the newer one being the second. */
export function addedTime(before: DeviceTime | undefined, time: DeviceTime): DeviceTime {
  if (!before) return time;
  return {
    atMs: time.atMs,
    runs: before.runs + time.runs,
    ownMs: before.ownMs + time.ownMs,
    othersMs: before.othersMs + time.othersMs,
    sharers: Math.max(before.sharers, time.sharers),
  };
}

/** `times`: of all hosts of a class, about in order, oldest first. What is older than `staleAfterMs` says nothing of now. */
export function sharingOf(times: readonly DeviceTime[], nowMs: number): DeviceSharing {
  let newestMs = nowMs - staleAfterMs;
  for (const { atMs } of times) newestMs = Math.max(newestMs, atMs);
  let [reports, shares, runs, othersMs] = [0, 0, 0, 0];
  for (let at = times.length - 1; at >= 0; at--) {
    const time = times[at] as DeviceTime;
    const isEnough = runs >= enoughRuns && newestMs - time.atMs > lastMs;
    if (isEnough || nowMs - time.atMs > staleAfterMs) continue;
    reports += 1;
    shares += Math.max(1 / Math.max(1, time.sharers), time.ownMs > 0 ? time.ownMs / (time.ownMs + time.othersMs) : 0);
    runs += time.runs;
    othersMs += time.othersMs;
  }
  return reports === 0 || othersMs === 0 ? undivided : { share: shares / reports, betweenMs: othersMs / Math.max(1, runs) };
}
