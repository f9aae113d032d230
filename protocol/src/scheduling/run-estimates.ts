/**
 * What a run of b items will take, from what runs took: the figures behind drop, growth and admission. Coordinators and hosts read the
 * same function over the same windows. Pure: samples and their times are arguments. Samples must come from runs that succeeded, that
 * nothing delayed (not the first after a load), timed inside the runner; whoever calls keeps the others out.
 */

import type { ModelSignature } from "../model.ts";
import type { CheckedInputs } from "../signature-check.ts";

/** Predicted run times, ascending in items (1, 2, 4 …) and never falling in milliseconds. */
export type Ladder = readonly (readonly [items: number, ms: number])[];

export interface RunSample {
  items: number;
  runMs: number;
  atMs: number;
}

/** The last runs of one bucket, oldest first. */
export interface RunWindow {
  bucket: number;
  runs: readonly RunSample[];
}

export interface RunEstimate {
  ladder: Ladder;
  /** What the rung of the busiest bucket rests on. */
  source: "window" | "fit" | "warm_up";
  /** Mean milliseconds per item in full batches, which is how a backlog is worked off: throughput, where the ladder is a promise. */
  itemMs: number;
  /** Mean run of the bucket that carried most of the recent items: how long a host that runs now is likely to. */
  typicalMs: number;
  /** When the newest sample was taken; undefined while only the warm-up is known. */
  newestMs: number | undefined;
}

export interface EstimateRule {
  /** How many of the runs keep the promise, nearest rank; but the longest run of five and more is always left out. */
  quantile: number;
  /** A bucket with fewer samples is read off the line through all. */
  fullWindow: number;
}

export const windowRuns = 50;
export const estimateRule: EstimateRule = { quantile: 0.9, fullWindow: 20 };
/** An estimate that no run has confirmed for so long binds nobody; see `isStale`. Longer than the way from a run to every coordinator. */
export const staleAfterMs = 5_000;
/** Older runs make way for newer ones, so that an estimate heals after a bad time; but a few always stay. */
const forgetAfterMs = 10_000;
const keptRuns = 5;
/** Which bucket is busiest is judged by items, halved every so often. */
const busyHalfLifeMs = 10_000;

/** The smallest power of two that holds so many items. */
export function bucketOf(items: number): number {
  return items <= 1 ? 1 : 2 ** Math.ceil(Math.log2(items));
}

/** 0 where all axes but the batch axis are fixed, else the power of two of the elements per item: runs of one class take alike. */
export function sizeClassOf(checked: Pick<CheckedInputs, "inputs" | "items" | "stackable">, signature: ModelSignature): number {
  const varies = signature.inputs.some(({ shape }) => shape.some((size, axis) => size < 0 && !(axis === 0 && checked.stackable)));
  if (!varies) return 0;
  let elements = 0;
  for (const { shape } of checked.inputs) elements += shape.reduce((product, size) => product * size, 1);
  return Math.ceil(Math.log2(Math.max(1, elements / checked.items)));
}

/** The window with one run more. */
export function withRun(window: RunWindow | undefined, run: RunSample, most = windowRuns): RunWindow {
  return { bucket: bucketOf(run.items), runs: [...(window?.runs ?? []), run].slice(-most) };
}

/** The runs of a window that still speak for it. */
function fresh({ bucket, runs }: RunWindow): RunWindow {
  const newestMs = runs.at(-1)?.atMs ?? 0;
  const from = runs.findIndex(({ atMs }) => atMs >= newestMs - forgetAfterMs);
  return { bucket, runs: runs.slice(Math.max(0, Math.min(from, runs.length - keptRuns))) };
}

/**
 * Nothing while there is neither a sample nor a warm-up. `maxItems`: the largest batch, the ladder's end. A rung is the median of its bucket,
 * or the line's value, raised by how far runs of all buckets lie above theirs: few runs are far out, and they must not speak for one bucket.
 */
export function estimateRuns(
  windows: readonly RunWindow[],
  warmUp: Ladder | undefined,
  maxItems: number,
  rule: EstimateRule = estimateRule,
): RunEstimate | undefined {
  const known = windows.filter(({ runs }) => runs.length > 0).map(fresh);
  const profile = warmUp?.length ? warmUp : undefined;
  if (known.length === 0) return profile && ofWarmUp(profile, maxItems);
  const newestMs = Math.max(...known.map(newestOf));
  // a bucket that was not run for long says how sizes compare, not how long they take
  const [live, past] = [true, false].map((isLive) => known.filter((window) => newestOf(window) >= newestMs - forgetAfterMs === isLive)) as [
    RunWindow[],
    RunWindow[],
  ];
  const shape = profile ? (items: number) => runMs(profile, items) : (lineThrough(past) ?? lineThrough(known));
  const line = lineThrough(live) ?? shapedBy(shape, live[0] as RunWindow);
  const centres = new Map(
    live.filter(({ runs }) => runs.length >= rule.fullWindow).map((window) => [window.bucket, centreOf(window, line)]),
  );
  const centreAt = (items: number): number => {
    const bucket = bucketOf(items);
    const centre = centres.get(bucket);
    return centre === undefined ? line(items) : (centre * line(items)) / line(bucket);
  };
  const ratios = live.flatMap(({ runs }) => runs.map((run) => run.runMs / centreAt(run.items)));
  const raise = Math.max(1, promiseOf(ratios, rule));
  let before = 0;
  const ladder = rungsTo(maxItems).map((items): [number, number] => {
    before = Math.max(before, raise * centreAt(items));
    return [items, before];
  });
  const busiest = busiestOf(live, newestMs);
  const far = mean(ratios);
  return {
    ladder,
    source: centres.has(busiest.bucket) ? "window" : "fit",
    itemMs: (far * centreAt(maxItems)) / maxItems,
    typicalMs: mean(busiest.runs.map((run) => run.runMs)),
    newestMs,
  };
}

function ofWarmUp(profile: Ladder, maxItems: number): RunEstimate {
  const ladder = rungsTo(maxItems).map((items) => [items, runMs(profile, items)] as const);
  const fullMs = runMs(profile, maxItems);
  return { ladder, source: "warm_up", itemMs: fullMs / maxItems, typicalMs: fullMs, newestMs: undefined };
}

/** The promised milliseconds for so many items; beyond the ladder's end in proportion, and 0 where nothing is known. */
export function runMs(ladder: Ladder | undefined, items: number): number {
  if (!ladder) return 0;
  for (const [most, ms] of ladder) if (items <= most) return ms;
  const last = ladder.at(-1);
  return last ? (last[1] * items) / last[0] : 0;
}

/**
 * Whether nothing has run lately. Refusing and dropping by a stale estimate would keep it stale for ever, so it binds nobody: jobs are admitted,
 * and a claim sends no ladder, until a run confirms it or shows how things are now. A warm-up that no run has confirmed is stale, and so is what a clock that
 * has been set back since has dated far ahead.
 */
export function isStale(estimate: Pick<RunEstimate, "newestMs">, nowMs: number): boolean {
  return estimate.newestMs === undefined || Math.abs(nowMs - estimate.newestMs) > staleAfterMs;
}

function rungsTo(maxItems: number): number[] {
  const rungs = [1];
  while ((rungs.at(-1) as number) < maxItems) rungs.push((rungs.at(-1) as number) * 2);
  return rungs;
}

/** Milliseconds that so many items usually take. */
type Line = (items: number) => number;

const newestOf = ({ runs }: RunWindow): number => runs.at(-1)?.atMs ?? 0;
const medianOf = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[(values.length - 1) >> 1] ?? 0;

/** The bucket's median as if all of its runs had been full. */
function centreOf({ bucket, runs }: RunWindow, line: Line): number {
  return medianOf(runs.map((run) => (run.runMs * line(bucket)) / line(run.items)));
}

/** One bucket was seen: the shape at the height that was measured, or in proportion upwards and level downwards. */
function shapedBy(shape: Line | undefined, { bucket, runs }: RunWindow): Line {
  const height = medianOf(runs.map((run) => run.runMs));
  const items = medianOf(runs.map((run) => run.items));
  const shaped = shape?.(items) ?? 0;
  if (shape && shaped > 0) return (wanted) => (height * shape(wanted)) / shaped;
  return (wanted) => (wanted <= bucket ? height : (height * wanted) / items);
}

/** Least squares over runs of at least two sizes, far-out ones cut to the double of their bucket's median; it never falls. */
function lineThrough(windows: readonly RunWindow[]): Line | undefined {
  const points = windows.flatMap(({ runs }) => {
    const most = 2 * medianOf(runs.map((run) => run.runMs));
    return runs.map((run) => ({ items: run.items, ms: Math.min(run.runMs, most) }));
  });
  const meanItems = mean(points.map(({ items }) => items));
  const meanMs = mean(points.map(({ ms }) => ms));
  let [together, alone] = [0, 0];
  for (const { items, ms } of points) {
    together += (items - meanItems) * (ms - meanMs);
    alone += (items - meanItems) ** 2;
  }
  if (alone === 0) return undefined;
  const slope = Math.min(Math.max(0, together / alone), meanMs / meanItems);
  const base = Math.max(0, meanMs - slope * meanItems);
  return (items) => base + slope * items;
}

/** The value that so many of the samples do not exceed. */
function promiseOf(values: readonly number[], { quantile }: EstimateRule): number {
  const sorted = Float64Array.from(values).sort();
  const most = sorted.length >= keptRuns ? sorted.length - 1 : sorted.length;
  return sorted[Math.max(0, Math.min(most, Math.ceil(quantile * sorted.length)) - 1)] ?? 0;
}

function busiestOf(windows: readonly RunWindow[], nowMs: number): RunWindow {
  const loads = windows.map(({ runs }) => runs.reduce((sum, run) => sum + run.items * 0.5 ** ((nowMs - run.atMs) / busyHalfLifeMs), 0));
  return windows[loads.indexOf(Math.max(...loads))] as RunWindow;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
