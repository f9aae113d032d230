/**
 * What part of its hosts' time a queue gets where others have work there, and what passes between runs: the figures behind a backlog's prediction. Hosts tell
 * how long they ran a queue's jobs, how long they ran others while those jobs waited, and how long nothing. What is a queue's by right, its part among those that have work, is what a backlog gets at
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
  /** That nobody had it before those of the runs whose jobs were there when the run before ended, and how many these are. */
  idleMs: number;
  idleRuns: number;
  /** An even part of the time is one of so many. */
  sharers: number;
  /** Stands for the host. */
  host: number;
}

/** As the thread that ran it tells it: which host it was, is added to the report. */
export type RanTime = Omit<DeviceTime, "host">;

export interface DeviceSharing {
  /** Of the hosts' time, on average over hosts; above 0, and 1 where nobody else had work. */
  share: number;
  /** That others have the device before each of this queue's runs. */
  betweenMs: number;
  /** That nobody has it between two runs while jobs wait: claims and transfers. */
  idleMs: number;
}

export const undivided: DeviceSharing = { share: 1, betweenMs: 0, idleMs: 0 };

/** Milliseconds for each item of a backlog on one such host, which runs full batches of `itemMs` an item. */
export function backlogItemMs(itemMs: number, maxItems: number, { idleMs, share }: DeviceSharing): number {
  return itemMs / share + idleMs / maxItems;
}

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
    idleRuns: before.idleRuns + time.idleRuns,
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
  let [shares, runs, othersMs, idleMs, idleRuns] = [0, 0, 0, 0, 0];
  for (const told of byHost.values()) {
    const host = lately(told);
    const allMs = host.ownMs + host.othersMs;
    shares += allMs > 0 ? Math.max(1 / Math.max(1, host.sharers), host.ownMs / allMs) : 1;
    idleMs += host.idleMs;
    idleRuns += host.idleRuns;
    runs += host.runs;
    othersMs += host.othersMs;
  }
  if (byHost.size === 0) return undivided;
  const betweenMs = othersMs / Math.max(1, runs);
  return { share: othersMs === 0 ? 1 : shares / byHost.size, betweenMs, idleMs: idleMs / Math.max(1, idleRuns) };
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
