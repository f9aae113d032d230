/**
 * What part of its hosts' time a queue's runs get: the figures behind a backlog's prediction. Hosts tell how long they ran a queue's jobs, how long they ran
 * others while those jobs waited, and how long they ran nothing. What is a queue's by right, its part among those that have work, is what a backlog gets at
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
  /** That nobody had it while jobs that had waited since the run before waited on. */
  idleMs: number;
  /** An even part of the time is one of so many. */
  sharers: number;
  /** Stands for the host. */
  host: number;
}

/** As the thread that ran it tells it: which host it was, is added to the report. */
export type RanTime = Omit<DeviceTime, "host">;

export interface DeviceSharing {
  /** Of the hosts' time, on average over hosts; above 0, and 1 where nobody else had work and no time passes between runs. */
  share: number;
  /** That others have the device before each of this queue's runs. */
  betweenMs: number;
}

export const undivided: DeviceSharing = { share: 1, betweenMs: 0 };

/** Reports that are kept of each device class. */
export const keptTimes = 128;
/** A host tells so often at most. */
export const timeEveryMs = 1_000;
/** Of a host its last report speaks, those shortly before it, and older ones as long as there are not so many runs. */
const lastMs = 1.5 * timeEveryMs;
const enoughRuns = 20;
/** Where others had the device for long, as much more: both sides of a turn must be in it. */
const turns = 2.5;

/** Of both, the newer one being the second. */
export function addedTime(before: DeviceTime | undefined, time: DeviceTime): DeviceTime {
  if (!before) return time;
  return {
    atMs: time.atMs,
    runs: before.runs + time.runs,
    ownMs: before.ownMs + time.ownMs,
    othersMs: before.othersMs + time.othersMs,
    idleMs: before.idleMs + time.idleMs,
    sharers: Math.max(before.sharers, time.sharers),
    host: time.host,
  };
}

/** `times`: of all hosts of a class, oldest first. What is older than `staleAfterMs` says nothing of now, nor what a clock has told that ran ahead. */
export function sharingOf(times: readonly DeviceTime[], nowMs: number): DeviceSharing {
  const byHost = Map.groupBy(
    times.filter(({ atMs }) => nowMs - atMs <= staleAfterMs && atMs - nowMs <= timeEveryMs),
    ({ host }) => host,
  );
  let [shares, runs, othersMs, idleMs] = [0, 0, 0, 0];
  for (const told of byHost.values()) {
    const host = lately(told);
    const allMs = host.ownMs + host.othersMs;
    const part = allMs > 0 ? Math.max(1 / Math.max(1, host.sharers), host.ownMs / allMs) : 1;
    shares += allMs > 0 ? (part * allMs) / (allMs + Math.max(0, host.idleMs)) : part;
    idleMs += host.idleMs;
    runs += host.runs;
    othersMs += host.othersMs;
  }
  return othersMs === 0 && idleMs === 0 ? undivided : { share: shares / byHost.size, betweenMs: othersMs / Math.max(1, runs) };
}

/** Of one host. */
function lately(times: readonly DeviceTime[]): DeviceTime {
  const newest = times.at(-1) as DeviceTime;
  let sum = newest;
  for (let at = times.length - 2; at >= 0; at--) {
    const time = times[at] as DeviceTime;
    const windowMs = Math.max(lastMs, turns * Math.max(newest.othersMs, time.othersMs));
    if (sum.runs >= enoughRuns && newest.atMs - time.atMs > windowMs) break;
    sum = addedTime(time, sum);
  }
  return sum;
}
