/**
 * What a runner has counted of each queue since it last told: of each commit, when it is settled. Sums, so that neither a job nor a run costs
 * more than a few additions.
 */

import { type CountedRun, count, countRun, emptyTally, type QueueTally } from "@switchyard/protocol";

/** A commit as the store has settled it. */
export interface SettledCommit {
  /** Runs of its claim that succeeded. */
  runs: readonly CountedRun[];
  /** The first time that something of this claim is settled: its runs are counted then. */
  isFirst: boolean;
  /** Jobs whose success the store has taken. */
  succeeded: number;
  /** How long each job of the claim had waited for it. */
  queueMs: readonly number[];
  /** From the claim to now. */
  sinceClaimMs: number;
  /** The store's clock. */
  nowMs: number;
}

export class RunTallies {
  readonly #byTag = new Map<string, QueueTally>();
  readonly #onCounted: () => void;

  /** `onCounted` is called when something waits to be taken. */
  constructor(onCounted: () => void) {
    this.#onCounted = onCounted;
  }

  #of(tag: string): QueueTally {
    let tally = this.#byTag.get(tag);
    if (!tally) {
      tally = emptyTally();
      this.#byTag.set(tag, tally);
    }
    return tally;
  }

  /** Where only some of a claim's jobs have succeeded, each counts the mean over all; each has spent the whole run of its batch. */
  settled(tag: string, { isFirst, nowMs, queueMs, runs, sinceClaimMs, succeeded }: SettledCommit): void {
    if (succeeded === 0 && (runs.length === 0 || !isFirst)) return;
    const tally = this.#of(tag);
    let [jobs, inputMs, inferMs, outputMs, waitedMs] = [0, 0, 0, 0, 0];
    for (const run of runs) {
      if (isFirst) countRun(tally, run);
      jobs += run.jobs;
      inputMs += run.jobs * run.inputMs;
      inferMs += run.jobs * run.inferMs;
      outputMs += run.jobs * run.outputMs;
    }
    for (const ms of queueMs) waitedMs += ms;
    if (succeeded > 0) {
      const [share, queuedMs] = [succeeded / jobs, (succeeded * waitedMs) / queueMs.length];
      count(tally.success, succeeded, queuedMs + succeeded * sinceClaimMs);
      count(tally.queue, succeeded, queuedMs);
      count(tally.input, succeeded, share * inputMs);
      count(tally.infer, succeeded, share * inferMs);
      count(tally.output, succeeded, share * outputMs);
      tally.lastMs = Math.max(tally.lastMs, nowMs);
    }
    this.#onCounted();
  }

  /** What was counted since the last call, by queue. */
  take(): [tag: string, tally: QueueTally][] {
    const taken = [...this.#byTag];
    this.#byTag.clear();
    return taken;
  }
}
