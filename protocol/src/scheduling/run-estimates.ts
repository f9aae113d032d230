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
  /** Of a window, nearest rank; but the longest run of five and more is always left out. */
  quantile: number;
  /** A bucket with fewer samples is read off the line. */
  fullWindow: number;
}

export const windowRuns = 50;
export const estimateRule: EstimateRule = { quantile: 0.9, fullWindow: 20 };
/** An estimate that no run has confirmed for so long binds nobody; see `isStale`. */
export const staleAfterMs = 2_000;
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
  const runs = [...(window?.runs ?? []), run].slice(-most);
  const fresh = runs.findIndex(({ atMs }) => atMs >= run.atMs - forgetAfterMs);
  return { bucket: bucketOf(run.items), runs: runs.slice(Math.max(0, Math.min(fresh, runs.length - keptRuns))) };
}

/** Nothing while there is neither a sample nor a warm-up. `maxItems`: the largest batch, the ladder's end. */
export function estimateRuns(
  windows: readonly RunWindow[],
  warmUp: Ladder | undefined,
  maxItems: number,
  rule: EstimateRule = estimateRule,
): RunEstimate | undefined {
  const known = windows.filter(({ runs }) => runs.length > 0);
  const profile = warmUp?.length ? warmUp : undefined;
  if (known.length === 0 && !profile) return undefined;
  const newestMs = known.length > 0 ? Math.max(...known.map(newestOf)) : undefined;
  // a bucket that was not run for long says how the others were, not how they are
  const live = known.filter((window) => newestOf(window) >= (newestMs ?? 0) - forgetAfterMs);
  const grounds: Grounds = {
    line: lineThrough(allRuns(live), rule),
    shape: profile ?? ladderOn(lineThrough(allRuns(known), rule), maxItems),
    rule,
    live,
  };
  const busiest = busiestOf(live, newestMs ?? 0);
  let source: RunEstimate["source"] = "warm_up";
  let before = 0;
  const ladder = rungsTo(maxItems).map((items): [number, number] => {
    const rung = rungOf(items, grounds);
    if (busiest?.bucket === items) source = rung.source;
    before = Math.max(before, rung.ms);
    return [items, before];
  });
  const typicalMs = busiest ? mean(timesOf(busiest.runs)) : runMs(ladder, maxItems);
  return { ladder, source, itemMs: fullRunMs(ladder, maxItems, grounds) / maxItems, typicalMs, newestMs };
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
 * and a claim sends no ladder, until a run confirms it or shows how things are now. A warm-up that no run has confirmed is stale.
 */
export function isStale(estimate: Pick<RunEstimate, "newestMs">, nowMs: number): boolean {
  return estimate.newestMs === undefined || nowMs - estimate.newestMs > staleAfterMs;
}

function rungsTo(maxItems: number): number[] {
  const rungs = [1];
  while ((rungs.at(-1) as number) < maxItems) rungs.push((rungs.at(-1) as number) * 2);
  return rungs;
}

interface Grounds {
  /** Through the runs of all live buckets, if they are of two sizes. */
  line: Line | undefined;
  /** How sizes compare: the warm-up, or what was seen before. */
  shape: Ladder | undefined;
  rule: EstimateRule;
  live: readonly RunWindow[];
}

function rungOf(items: number, { line, shape, rule, live }: Grounds): { ms: number; source: RunEstimate["source"] } {
  const runs = live.find(({ bucket }) => bucket === items)?.runs ?? [];
  if (runs.length >= rule.fullWindow) return { ms: promiseOf(timesOf(runs), rule), source: "window" };
  if (line) return { ms: lineAt(line, items), source: "fit" };
  const [only] = live;
  if (!only) return { ms: runMs(shape, items), source: "warm_up" };
  // one bucket is live: the shape at the height that was measured, or in proportion upwards
  const seen = promiseOf(timesOf(only.runs), rule);
  const shaped = runMs(shape, only.bucket);
  if (shaped > 0) return { ms: (seen * runMs(shape, items)) / shaped, source: "fit" };
  return { ms: items <= only.bucket ? seen : (seen * items) / only.bucket, source: "fit" };
}

/** The value that so many of the samples do not exceed. One run in a hundred is far out: it must not speak for the others. */
function promiseOf(times: readonly number[], { quantile }: EstimateRule): number {
  const sorted = Float64Array.from(times).sort();
  const most = sorted.length >= keptRuns ? sorted.length - 1 : sorted.length;
  return sorted[Math.max(0, Math.min(most, Math.ceil(quantile * sorted.length)) - 1)] ?? 0;
}

interface Line {
  base: number;
  slope: number;
  /** Added to the line, so that it promises as a window does. */
  residual: number;
}

function lineAt({ base, slope, residual }: Line, items: number): number {
  return base + slope * items + residual;
}

function ladderOn(line: Line | undefined, maxItems: number): Ladder | undefined {
  return line && rungsTo(maxItems).map((items) => [items, lineAt(line, items)] as const);
}

/** Least squares over runs of at least two sizes; neither part is negative. */
function lineThrough(runs: readonly RunSample[], rule: EstimateRule): Line | undefined {
  const meanItems = mean(runs.map(({ items }) => items));
  const meanMs = mean(timesOf(runs));
  let [together, alone] = [0, 0];
  for (const run of runs) {
    together += (run.items - meanItems) * (run.runMs - meanMs);
    alone += (run.items - meanItems) ** 2;
  }
  if (alone === 0) return undefined;
  const slope = Math.min(Math.max(0, together / alone), meanMs / meanItems);
  const base = Math.max(0, meanMs - slope * meanItems);
  const residuals = runs.map((run) => run.runMs - base - slope * run.items);
  return { base, slope, residual: Math.max(0, promiseOf(residuals, rule)) };
}

const newestOf = ({ runs }: RunWindow): number => runs.at(-1)?.atMs ?? 0;
const allRuns = (windows: readonly RunWindow[]): RunSample[] => windows.flatMap(({ runs }) => runs);
const timesOf = (runs: readonly RunSample[]): number[] => runs.map((run) => run.runMs);

function busiestOf(windows: readonly RunWindow[], nowMs: number): RunWindow | undefined {
  let [best, most] = [undefined as RunWindow | undefined, -1];
  for (const window of windows) {
    const items = window.runs.reduce((sum, run) => sum + run.items * 0.5 ** ((nowMs - run.atMs) / busyHalfLifeMs), 0);
    if (items > most) [best, most] = [window, items];
  }
  return best;
}

/** Mean time of a full batch; its promise where no mean is known. */
function fullRunMs(ladder: Ladder, maxItems: number, { live, line, rule }: Grounds): number {
  const runs = live.find(({ bucket }) => bucket === bucketOf(maxItems))?.runs ?? [];
  if (runs.length >= rule.fullWindow) return mean(timesOf(runs));
  return line ? line.base + line.slope * maxItems : runMs(ladder, maxItems);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
