/**
 * What hosts tell of their runs, as fields of a queue's hash `runs`: written by hosts through lua/report, read by coordinators. One device
 * class (hosts that take alike) shares its fields.
 */

import { type DeviceTime, keptTimes } from "./device-share.ts";
import { bucketOf, type Ladder, type RunSample, type RunWindow, windowRuns } from "./run-estimates.ts";

/** All that is known of one device class in one queue. */
export interface DeviceRuns {
  device: string;
  /** By size class. */
  windows: Map<number, RunWindow[]>;
  warmUp: Ladder;
  /** How long the model took to load; undefined before it was. */
  loadMs: number | undefined;
  /** What a claim costs beside its run. */
  overheadMs: number | undefined;
  /** What hosts ran of this queue, and of others while it had work; oldest first. */
  times: DeviceTime[];
}

/** One fact for lua/report: field, most entries kept (0: it replaces), text. */
export type RunReport = [field: string, most: number, text: string];

const nameOf = (device: string): string => encodeURIComponent(device);

export function sampleReports(device: string, size: number, samples: readonly RunSample[]): RunReport[] {
  const byBucket = Map.groupBy(samples, ({ items }) => bucketOf(items));
  return [...byBucket].map(([bucket, runs]) => [
    `${nameOf(device)} runs ${size} ${bucket}`,
    windowRuns,
    runs.map(({ atMs, items, runMs }) => `${Math.round(atMs)},${items},${runMs.toFixed(3)}`).join(" "),
  ]);
}

export function loadReports(device: string, load: { warmUp: Ladder; loadMs: number }): RunReport[] {
  const reports: RunReport[] = [[`${nameOf(device)} load`, 0, load.loadMs.toFixed(1)]];
  if (load.warmUp.length > 0) {
    reports.push([`${nameOf(device)} warmup`, 0, load.warmUp.map(([items, ms]) => `${items},${ms.toFixed(3)}`).join(" ")]);
  }
  return reports;
}

export function overheadReport(device: string, overheadMs: number): RunReport {
  return [`${nameOf(device)} overhead`, 0, overheadMs.toFixed(2)];
}

export function deviceTimeReport(device: string, { atMs, runs, ownMs, othersMs, idleMs, idleRuns, sharers, host }: DeviceTime): RunReport {
  const words = [Math.round(atMs), runs, ownMs.toFixed(3), othersMs.toFixed(3), sharers, host, idleMs.toFixed(3), idleRuns];
  return [`${nameOf(device)} times`, keptTimes, words.join(",")];
}

/** The hash's fields and texts by turns. What cannot be read is left out: one host's nonsense must not blind coordinators to the others. */
export function readRunReports(flat: readonly string[]): Map<string, DeviceRuns> {
  const devices = new Map<string, DeviceRuns>();
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [name = "", ...kind] = (flat[at] as string).split(" ");
    const [device, add] = [deviceOf(name), readFact(kind, flat[at + 1] as string)];
    if (device === undefined || !add) continue;
    let runs = devices.get(device);
    if (!runs) {
      runs = { device, windows: new Map(), warmUp: [], loadMs: undefined, overheadMs: undefined, times: [] };
      devices.set(device, runs);
    }
    add(runs);
  }
  return devices;
}

function deviceOf(name: string): string | undefined {
  try {
    return decodeURIComponent(name);
  } catch {
    return undefined;
  }
}

/** What the text adds to its device; nothing when it cannot be read. */
function readFact([kind, size = "", bucket = ""]: readonly string[], text: string): ((runs: DeviceRuns) => void) | undefined {
  if (kind === "load" || kind === "overhead") {
    const [ms] = numbersIn(text, 1)[0] ?? [];
    if (ms === undefined) return undefined;
    return (runs) => {
      runs[kind === "load" ? "loadMs" : "overheadMs"] = ms;
    };
  }
  if (kind === "warmup") {
    const warmUp = numbersIn(text, 2).filter(([items]) => items >= 1);
    if (warmUp.length === 0) return undefined;
    return (runs) => {
      runs.warmUp = warmUp.map(([items, ms]) => [items, ms] as const);
    };
  }
  if (kind === "times") {
    // hosts of the release before do not tell how long nobody had the device
    const times = [...numbersIn(text, 6), ...numbersIn(text, 8)].map(
      ([atMs, runs, ownMs, othersMs, sharers, host, ...idle]): DeviceTime => {
        const [idleMs = 0, idleRuns = 0] = idle;
        return { atMs, runs, ownMs, othersMs, idleMs, idleRuns, sharers, host };
      },
    );
    return (runs) => {
      runs.times = times;
    };
  }
  const [sizeClass, most] = [/^\d+$/.test(size) ? Number(size) : -1, /^\d+$/.test(bucket) ? Number(bucket) : 0];
  const samples = numbersIn(text, 3).flatMap(([atMs, items, runMs]): RunSample[] => (items >= 1 ? [{ atMs, items, runMs }] : []));
  if (kind !== "runs" || sizeClass < 0 || most < 1 || samples.length === 0) return undefined;
  return (runs) => {
    runs.windows.set(sizeClass, [...(runs.windows.get(sizeClass) ?? []), { bucket: most, runs: samples }]);
  };
}

interface NumbersOf {
  1: [number];
  2: [number, number];
  3: [number, number, number];
  6: [number, number, number, number, number, number];
  8: [number, number, number, number, number, number, number, number];
}
type Numbers<Count extends keyof NumbersOf> = NumbersOf[Count];

/** The entries that are so many numbers of 0 or more, divided by commas. */
function numbersIn<Count extends keyof NumbersOf>(text: string, count: Count): Numbers<Count>[] {
  const entries = text.split(" ").map((entry) => entry.split(",").map((word) => (word === "" ? Number.NaN : Number(word))));
  return entries.filter((entry) => entry.length === count && entry.every((value) => value >= 0 && value < Infinity)) as Numbers<Count>[];
}
