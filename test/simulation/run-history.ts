/** What hosts of a class measured of a model, as the queue's own hash holds it for all of them, and the estimate that follows from it. */

import {
  bucketOf,
  type EstimateRule,
  estimateRule,
  estimateRuns,
  factorAfter,
  isStale,
  type Ladder,
  noOverhead,
  overheadMs,
  type RunEstimate,
  type RunWindow,
  runMs,
  windowRuns,
  withOverhead,
  withRun,
} from "@switchyard/protocol";

export interface HistoryRule extends EstimateRule {
  window: number;
  /** Whether missed predictions raise the next ones. */
  corrects: boolean;
}

export const historyRule: HistoryRule = { ...estimateRule, window: windowRuns, corrects: true };

/** An estimate is computed again when it is older than this and something has run. */
const refreshMs = 100;

export class RunHistory {
  readonly #windows = new Map<number, RunWindow>();
  readonly #warmUp: Ladder;
  readonly #maxItems: number;
  readonly #rule: HistoryRule;
  #overhead = noOverhead;
  #factor = 1;
  #estimate: RunEstimate | undefined;
  #computedMs = Number.NEGATIVE_INFINITY;
  #changed = true;

  constructor(warmUp: Ladder, maxItems: number, rule: HistoryRule) {
    this.#warmUp = warmUp;
    this.#maxItems = maxItems;
    this.#rule = rule;
  }

  add(run: { items: number; runMs: number; atMs: number; overheadMs: number }): void {
    const bucket = bucketOf(run.items);
    if (this.#rule.corrects && this.#estimate) this.#factor = factorAfter(this.#factor, runMs(this.#estimate.ladder, run.items), run.runMs);
    this.#windows.set(bucket, withRun(this.#windows.get(bucket), run, this.#rule.window));
    this.#overhead = withOverhead(this.#overhead, run.overheadMs);
    this.#changed = true;
  }

  estimate(nowMs: number): RunEstimate {
    if (!this.#estimate || (this.#changed && nowMs - this.#computedMs >= refreshMs)) {
      const plain = estimateRuns([...this.#windows.values()], this.#warmUp, this.#maxItems, this.#rule) as RunEstimate;
      const factor = this.#factor;
      this.#estimate = factor === 1 ? plain : { ...plain, ladder: plain.ladder.map(([items, ms]) => [items, ms * factor] as const) };
      this.#computedMs = nowMs;
      this.#changed = false;
    }
    return this.#estimate;
  }

  /** What a host sends with a claim: nothing while the estimate is stale. */
  ladder(nowMs: number): Ladder | undefined {
    const estimate = this.estimate(nowMs);
    return isStale(estimate, nowMs) ? undefined : estimate.ladder;
  }

  get overheadMs(): number {
    return overheadMs(this.#overhead);
  }
}
