/** What hosts of a class measured of a model, as the queue's own hash holds it for all of them, and the estimate that follows from it. */

import {
  addedTime,
  bucketOf,
  type DeviceSharing,
  type DeviceTime,
  type EstimateRule,
  estimateRule,
  estimateRuns,
  factorAfter,
  isStale,
  keptTimes,
  type Ladder,
  noOverhead,
  overheadMs,
  type RunEstimate,
  type RunWindow,
  runMs,
  sharingOf,
  timeEveryMs,
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

/** An estimate is computed again when it is older than this and something has run: on a host soon, on a coordinator after reports came. */
const [hostRefreshMs, coordinatorRefreshMs] = [50, 1_000];

interface Kept {
  estimate: RunEstimate;
  atMs: number;
  runs: number;
}

export class RunHistory {
  readonly #windows = new Map<number, RunWindow>();
  readonly #warmUp: Ladder;
  readonly #maxItems: number;
  readonly #rule: HistoryRule;
  readonly #times: DeviceTime[] = [];
  readonly #untold = new Map<number, { time: DeviceTime | undefined; toldMs: number }>();
  #sharing: { sharing: DeviceSharing; atMs: number } | undefined;
  #overhead = noOverhead;
  #factor = 1;
  #runs = 0;
  #ofHosts: Kept | undefined;
  #ofCoordinators: Kept | undefined;

  constructor(warmUp: Ladder, maxItems: number, rule: HistoryRule) {
    this.#warmUp = warmUp;
    this.#maxItems = maxItems;
    this.#rule = rule;
  }

  add(run: { items: number; runMs: number; atMs: number; overheadMs: number }): void {
    const bucket = bucketOf(run.items);
    const promisedMs = runMs(this.#ofHosts?.estimate.ladder, run.items);
    if (this.#rule.corrects) this.#factor = factorAfter(this.#factor, this.#factor * promisedMs, run.runMs);
    this.#windows.set(bucket, withRun(this.#windows.get(bucket), run, this.#rule.window));
    this.#overhead = withOverhead(this.#overhead, run.overheadMs);
    this.#runs++;
  }

  /** So much of it, and of others meanwhile, a host has run: it tells once a second. */
  ranFor(time: DeviceTime): void {
    const before = this.#untold.get(time.host);
    const untold = addedTime(before?.time, time);
    const toldMs = before?.toldMs ?? Number.NEGATIVE_INFINITY;
    const isDue = time.atMs - toldMs >= timeEveryMs;
    this.#untold.set(time.host, isDue ? { time: undefined, toldMs: time.atMs } : { time: untold, toldMs });
    if (!isDue) return;
    this.#times.push(untold);
    if (this.#times.length > keptTimes) this.#times.shift();
  }

  /** As read a second ago at most. */
  sharing(nowMs: number): DeviceSharing {
    if (!this.#sharing || nowMs - this.#sharing.atMs >= coordinatorRefreshMs)
      this.#sharing = { sharing: sharingOf(this.#times, nowMs), atMs: nowMs };
    return this.#sharing.sharing;
  }

  #kept(before: Kept | undefined, refreshMs: number, nowMs: number): Kept {
    if (before && (before.runs === this.#runs || nowMs - before.atMs < refreshMs)) return before;
    const estimate = estimateRuns([...this.#windows.values()], this.#warmUp, this.#maxItems, this.#rule) as RunEstimate;
    return { estimate, atMs: nowMs, runs: this.#runs };
  }

  /** What coordinators go by. */
  estimate(nowMs: number): RunEstimate {
    this.#ofCoordinators = this.#kept(this.#ofCoordinators, coordinatorRefreshMs, nowMs);
    return this.#ofCoordinators.estimate;
  }

  /** What a host sends with a claim: nothing while the estimate is stale. */
  ladder(nowMs: number): Ladder | undefined {
    this.#ofHosts = this.#kept(this.#ofHosts, hostRefreshMs, nowMs);
    const { estimate } = this.#ofHosts;
    if (isStale(estimate, nowMs)) return undefined;
    return this.#factor === 1 ? estimate.ladder : estimate.ladder.map(([items, ms]) => [items, ms * this.#factor] as const);
  }

  get overheadMs(): number {
    return overheadMs(this.#overhead);
  }
}
