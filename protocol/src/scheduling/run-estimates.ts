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
  /** Mean milliseconds per item in the bucket that carried most of the recent items: throughput, where the ladder is a promise. */
  itemMs: number;
  /** When the newest sample was taken; undefined while only the warm-up is known. */
  newestMs: number | undefined;
}

export interface EstimateRule {
  /** Of a full window, nearest rank. */
  quantile: number;
  /** A bucket with fewer samples is read off the line. */
  fullWindow: number;
}

export const windowRuns = 50;
export const estimateRule: EstimateRule = { quantile: 0.99, fullWindow: 20 };
/** An estimate whose newest sample is older says little; see `isStale`. */
export const staleAfterMs = 30_000;
/** Older runs make way for newer ones, so that an estimate heals after a bad time; but a few always stay. */
const forgetAfterMs = 60_000;
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
  const line = lineThrough(known.flatMap(({ runs }) => runs));
  const newestMs = known.length > 0 ? Math.max(...known.map(({ runs }) => runs.at(-1)?.atMs ?? 0)) : undefined;
  const busiest = busiestOf(known, newestMs ?? 0);
  let source: RunEstimate["source"] = "warm_up";
  let before = 0;
  const ladder = rungsTo(maxItems).map((items): [number, number] => {
    const runs = known.find(({ bucket }) => bucket === items)?.runs ?? [];
    const rung = rungOf(items, runs, { line, profile, rule, known });
    if (busiest?.bucket === items) source = rung.source;
    before = Math.max(before, rung.ms);
    return [items, before];
  });
  return { ladder, source, itemMs: busiest ? meanItemMs(busiest.runs) : runMs(ladder, maxItems) / maxItems, newestMs };
}

/** The promised milliseconds for so many items; beyond the ladder's end in proportion, and 0 where nothing is known. */
export function runMs(ladder: Ladder | undefined, items: number): number {
  if (!ladder) return 0;
  for (const [most, ms] of ladder) if (items <= most) return ms;
  const last = ladder.at(-1);
  return last ? (last[1] * items) / last[0] : 0;
}

/**
 * Whether nothing has run lately. Refusing and dropping by a stale estimate alone would keep it stale for ever: a claim then goes by deadlines
 * (it sends no ladder), and admission explores. A warm-up that no run has confirmed is stale.
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
  line: Line | undefined;
  profile: Ladder | undefined;
  rule: EstimateRule;
  known: readonly RunWindow[];
}

function rungOf(
  items: number,
  runs: readonly RunSample[],
  { line, profile, rule, known }: Grounds,
): { ms: number; source: RunEstimate["source"] } {
  if (runs.length >= rule.fullWindow) return { ms: nearestRank(runs, rule.quantile), source: "window" };
  if (line) return { ms: line.base + line.slope * items + line.worstResidual, source: "fit" };
  if (known.length === 0) return { ms: runMs(profile, items), source: "warm_up" };
  // one bucket was seen: the warm-up's shape at the height that was measured, or in proportion upwards
  const { bucket, runs: seen } = known[0] as RunWindow;
  const worst = Math.max(...seen.map((run) => run.runMs));
  const promised = runMs(profile, bucket);
  if (promised > 0) return { ms: (worst * runMs(profile, items)) / promised, source: "fit" };
  return { ms: items <= bucket ? worst : (worst * items) / bucket, source: "fit" };
}

/** The value that so many of the samples do not exceed. */
export function nearestRank(runs: readonly RunSample[], quantile: number): number {
  const sorted = Float64Array.from(runs, (run) => run.runMs).sort();
  return sorted[Math.max(0, Math.ceil(quantile * sorted.length) - 1)] ?? 0;
}

interface Line {
  base: number;
  slope: number;
  worstResidual: number;
}

/** Least squares over runs of at least two sizes; neither part is negative. */
function lineThrough(runs: readonly RunSample[]): Line | undefined {
  const meanItems = mean(runs.map(({ items }) => items));
  const meanMs = mean(runs.map((run) => run.runMs));
  let [together, alone] = [0, 0];
  for (const run of runs) {
    together += (run.items - meanItems) * (run.runMs - meanMs);
    alone += (run.items - meanItems) ** 2;
  }
  if (alone === 0) return undefined;
  const slope = Math.min(Math.max(0, together / alone), meanMs / meanItems);
  const base = Math.max(0, meanMs - slope * meanItems);
  const worstResidual = runs.reduce((worst, run) => Math.max(worst, run.runMs - base - slope * run.items), 0);
  return { base, slope, worstResidual };
}

function busiestOf(windows: readonly RunWindow[], nowMs: number): RunWindow | undefined {
  let [best, most] = [undefined as RunWindow | undefined, -1];
  for (const window of windows) {
    const items = window.runs.reduce((sum, run) => sum + run.items * 0.5 ** ((nowMs - run.atMs) / busyHalfLifeMs), 0);
    if (items > most) [best, most] = [window, items];
  }
  return best;
}

function meanItemMs(runs: readonly RunSample[]): number {
  return mean(runs.map((run) => run.runMs)) / mean(runs.map(({ items }) => items));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
