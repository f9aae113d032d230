/**
 * What hosts tell of their runs, as fields of a queue's hash `runs`: written by hosts through lua/report, read by coordinators. One device
 * class (hosts that take alike) shares its fields.
 */

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

/** The hash's fields and texts by turns. What cannot be read is left out. */
export function readRunReports(flat: readonly string[]): Map<string, DeviceRuns> {
  const devices = new Map<string, DeviceRuns>();
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [name, kind, size, bucket] = (flat[at] as string).split(" ") as [string, string, string?, string?];
    const text = flat[at + 1] as string;
    const device = decodeURIComponent(name);
    let runs = devices.get(device);
    if (!runs) {
      runs = { device, windows: new Map(), warmUp: [], loadMs: undefined, overheadMs: undefined };
      devices.set(device, runs);
    }
    const rows = text.split(" ").map((row) => row.split(",").map(Number));
    if (kind === "load") runs.loadMs = Number(text);
    else if (kind === "overhead") runs.overheadMs = Number(text);
    else if (kind === "warmup") runs.warmUp = rows.map(([items = 1, ms = 0]): [number, number] => [items, ms]);
    else if (kind === "runs") {
      const samples = rows.map(([atMs = 0, items = 1, runMs = 0]): RunSample => ({ atMs, items, runMs }));
      const windows = runs.windows.get(Number(size)) ?? [];
      runs.windows.set(Number(size), [...windows, { bucket: Number(bucket), runs: samples }]);
    }
  }
  return devices;
}
