/**
 * What a runner has seen of each queue's runs, and what follows for its next claim: how long runs will take, what else a claim costs, and how
 * much it may hold. Pure but for its own lists; times are milliseconds of the store's clock where they say so, else durations.
 */

import {
  bucketOf,
  estimateRuns,
  factorAfter,
  halved,
  isStale,
  type Ladder,
  noOverhead,
  type Overhead,
  overheadMs,
  type RunEstimate,
  type RunSample,
  type RunWindow,
  runMs,
  staleAfterMs,
  withOverhead,
  withRun,
} from "@switchyard/protocol";

/** Inputs and outputs of what is in hand together, so that no batch outgrows the host's memory. */
export const mostClaimBytes = 256 * 1024 * 1024;

/** A run is light when so many of it take less than the rest of its claim. */
const lightShare = 2;
const busyMarginMs = 500;
/** The largest value seen fades by this factor a run. */
const fade = 0.95;
/** While there are fewer runs, an estimate is made anew after each. */
const fewRuns = 32;
/** An estimate over many samples moves slowly, and to make it takes longer than a light run. */
const estimateMs = 100;

/** How much the newest run says of what runs usually take. */
const newest = 0.2;
/** A claim ahead is made so much sooner than batches usually take to get ready, and a turn of the clock. */
const leadFactor = 1.5;
const clockMs = 1;
const mostReadyMs = 100;
const aloneEnough = 8;
/** Shorter runs are over before the next batch could be ready. */
const leastAheadMs = 1;

interface SizeFigures {
  /** What runs usually take, by bucket. */
  usualMs: Map<number, number>;
  windows: Map<number, RunWindow>;
  /** Rises while runs take longer than they were predicted to. */
  factor: number;
  estimate: RunEstimate | undefined;
  runs: number;
}

interface QueueFigures {
  runMs: number;
  itemBytes: number;
  overhead: Overhead;
  /** When the last of it was measured; monotonic. */
  overheadAtMs: number;
  /** From a claim to when its inputs are there and laid side by side. */
  readyMs: number;
  warmUp: Ladder;
  maxItems: number;
  sizes: Map<number, SizeFigures>;
  aloneInARow: number;
}

export interface RunSeen {
  runMs: number;
  items: number;
  /** Inputs and outputs of all items. */
  bytes: number;
  /** Runs of one size class take alike. */
  size: number;
  /** When it was claimed, by the store's clock. */
  atMs: number;
  /** It succeeded, and nothing out of the ordinary was in it: fit to predict others. */
  isSample: boolean;
}

/** The store's clock was set back: runs that it dated ahead would keep what comes from being heard until it gets there. */
function forgetAhead(seen: SizeFigures, nowMs: number): void {
  seen.estimate = undefined;
  for (const [bucket, { runs, ...window }] of seen.windows) {
    const kept = runs.filter(({ atMs }) => atMs <= nowMs);
    if (kept.length > 0) seen.windows.set(bucket, { ...window, runs: kept });
    else seen.windows.delete(bucket);
  }
}

export class RunFigures {
  readonly #queues = new Map<string, QueueFigures>();

  #of(tag: string): QueueFigures {
    let figures = this.#queues.get(tag);
    if (!figures) {
      const none = { runMs: 0, itemBytes: 0, overhead: noOverhead, overheadAtMs: 0, readyMs: 0 };
      figures = { ...none, warmUp: [], maxItems: 1, sizes: new Map(), aloneInARow: 0 };
      this.#queues.set(tag, figures);
    }
    return figures;
  }

  /** A model came into memory; what was measured of it before is kept. */
  loaded(tag: string, model: { warmUp: Ladder; maxItems: number }): void {
    Object.assign(this.#of(tag), model);
  }

  ran(tag: string, run: RunSeen): void {
    const figures = this.#of(tag);
    const itemBytes = run.items > 0 ? run.bytes / run.items : 0;
    figures.runMs = Math.max(run.runMs, fade * figures.runMs);
    figures.itemBytes = Math.max(itemBytes, fade * figures.itemBytes);
    if (run.isSample) this.#sample(figures, run.size, { items: run.items, runMs: run.runMs, atMs: run.atMs });
  }

  #sample(figures: QueueFigures, size: number, run: RunSample): void {
    let seen = figures.sizes.get(size);
    if (!seen) {
      seen = { usualMs: new Map(), windows: new Map(), factor: 1, estimate: undefined, runs: 0 };
      figures.sizes.set(size, seen);
    }
    if (seen.estimate && isStale(seen.estimate, run.atMs))
      seen.factor = 1; // what was missed then says nothing of now
    else if (seen.estimate) seen.factor = factorAfter(seen.factor, seen.factor * runMs(seen.estimate.ladder, run.items), run.runMs);
    const newestMs = seen.estimate?.newestMs ?? 0;
    if (newestMs - run.atMs > staleAfterMs) forgetAhead(seen, run.atMs);
    const bucket = bucketOf(run.items);
    const usualMs = seen.usualMs.get(bucket) ?? run.runMs;
    seen.usualMs.set(bucket, usualMs + newest * (run.runMs - usualMs));
    seen.windows.set(bucket, withRun(seen.windows.get(bucket), run));
    seen.runs += 1;
    const isYoung = Math.abs(run.atMs - (seen.estimate?.newestMs ?? 0)) < estimateMs;
    if (seen.estimate && isYoung && seen.runs > fewRuns) return;
    seen.estimate = estimateRuns([...seen.windows.values()], figures.warmUp, figures.maxItems);
  }

  /**
   * The time that a claim took beside its run. Where what was promised keeps jobs away, one comes through now and then: what it shows counts as much as all
   * that was seen before, or a minute of trouble would be held against minutes of jobs.
   *
   * @param atMs monotonic
   */
  claimTook(tag: string, { atMs, overheadMs: tookMs }: { overheadMs: number; atMs: number }): void {
    const figures = this.#of(tag);
    const before = atMs - figures.overheadAtMs > staleAfterMs ? halved(figures.overhead) : figures.overhead;
    figures.overhead = withOverhead(before, tookMs);
    figures.overheadAtMs = atMs;
  }

  /** A batch was ready that long after its claim was sent. */
  readyTook(tag: string, tookMs: number): void {
    const figures = this.#of(tag);
    const ms = Math.min(tookMs, mostReadyMs); // one that had to be asked for again says nothing of others
    figures.readyMs = figures.readyMs === 0 ? ms : figures.readyMs + newest * (ms - figures.readyMs);
  }

  readyMs(tag: string): number {
    return this.#of(tag).readyMs;
  }

  /** What such a run usually takes; undefined where none was seen. */
  usualMs(tag: string, { items, size }: { items: number; size: number }): number | undefined {
    return this.#of(tag).sizes.get(size)?.usualMs.get(bucketOf(items));
  }

  /** How long after a run of that time has begun the next batch is claimed, so that it is ready in time: as late as can be, for whatever comes until then. */
  aheadAfterMs(tag: string, usualMs: number | undefined): number {
    if (usualMs === undefined || usualMs < leastAheadMs) return Number.POSITIVE_INFINITY;
    return Math.max(0, usualMs - clockMs - leadFactor * this.#of(tag).readyMs);
  }

  /** Predicted runs by size class. What was not confirmed lately is left out: jobs then go by their deadlines alone, and heal it. */
  ladders(tag: string, nowMs: number): Map<number, Ladder> {
    const ladders = new Map<number, Ladder>();
    for (const [size, { estimate, factor }] of this.#of(tag).sizes) {
      if (!estimate || isStale(estimate, nowMs)) continue;
      ladders.set(size, factor === 1 ? estimate.ladder : estimate.ladder.map(([items, ms]) => [items, factor * ms]));
    }
    return ladders;
  }

  overheadMs(tag: string): number {
    return overheadMs(this.#of(tag).overhead);
  }

  /**
   * Where the run is short against all that is around it, a large batch gains nothing, and the stages of two smaller ones overlap: while one is
   * run, the other is admitted or answered.
   */
  parts(tag: string): 1 | 2 {
    const figures = this.#of(tag);
    return figures.runMs > 0 && lightShare * figures.runMs < overheadMs(figures.overhead) ? 2 : 1;
  }

  /** A commit of so many jobs, and whether the look behind it found nothing. */
  settled(tag: string, { jobs, leftNothing }: { jobs: number; leftNothing: boolean }): void {
    const figures = this.#of(tag);
    figures.aloneInARow = jobs === 1 && leftNothing ? figures.aloneInARow + 1 : 0;
  }

  /** What was handed over came too late to be begun unasked: for a while it is not worth its message. */
  wasLate(tag: string): void {
    this.#of(tag).aloneInARow = 0;
  }

  /** Jobs have come one at a time for a while: waiting a moment for company would be in vain. */
  comesAlone(tag: string): boolean {
    return this.#of(tag).aloneInARow >= aloneEnough;
  }

  /** The longest run of the last time, whatever was in it; undefined where none was seen. */
  longestMs(tag: string): number | undefined {
    return this.#of(tag).runMs || undefined;
  }

  /** Predicted run and a margin. */
  busyMs(tag: string): number {
    return 2 * this.#of(tag).runMs + busyMarginMs;
  }

  /** At least 1: a job larger than the bound still runs, alone. `isBeside`: two batches are in hand at once. */
  maxItems(tag: string, modelItems: number, { isBeside }: { isBeside: boolean }): number {
    const { itemBytes } = this.#of(tag);
    const mostBytes = isBeside ? mostClaimBytes / 2 : mostClaimBytes;
    return itemBytes === 0 ? modelItems : Math.max(1, Math.min(modelItems, Math.floor(mostBytes / itemBytes)));
  }
}
