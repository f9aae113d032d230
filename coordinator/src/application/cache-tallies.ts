/** What this coordinator answers without a run, for the statistics: hosts know nothing of it. Told by a loop, so that no answer waits for it. */

import { count, type QueueTally, UntoldTallies } from "@switchyard/protocol";
import type { ModelStatistics } from "../ports/model-statistics.ts";
import { FirstComer } from "./first-comer.ts";

export class CacheTallies {
  readonly #statistics: Pick<ModelStatistics, "add">;
  readonly #untold = new UntoldTallies();
  readonly #first = new FirstComer();

  constructor(statistics: Pick<ModelStatistics, "add">) {
    this.#statistics = statistics;
  }

  /** An answer was known, and found in `ms`. */
  hit(tag: string, ms: number, nowMs: number): void {
    this.#answered(tag, { ms, waitedMs: 0, nowMs });
  }

  /** A job was answered together with an equal one, for which it had waited `ms`. */
  joined(tag: string, ms: number, nowMs: number): void {
    this.#answered(tag, { ms, waitedMs: ms, nowMs });
  }

  #answered(tag: string, { ms, waitedMs, nowMs }: { ms: number; waitedMs: number; nowMs: number }): void {
    const tally = this.#of(tag);
    count(tally.success, 1, ms);
    count(tally.queue, 1, waitedMs);
    count(tally.hit, 1, ms - waitedMs);
    tally.lastMs = Math.max(tally.lastMs, nowMs);
  }

  /** No answer was known: that took `ms`, and the job runs. */
  missed(tag: string, ms: number): void {
    count(this.#of(tag).miss, 1, ms);
  }

  #of(tag: string): QueueTally {
    const tally = this.#untold.of(tag);
    this.#first.came();
    return tally;
  }

  /** Resolves when something is to be told, or with the signal. */
  some(signal: AbortSignal): Promise<void> {
    return this.#first.until(this.#untold.tags().length > 0, signal);
  }

  /** Throws the first failure when all queues have had their turn; then nothing is lost but the time. */
  async tell(): Promise<void> {
    const tell = async (tag: string): Promise<void> => {
      const next = this.#untold.next(tag);
      if (!next) return;
      await this.#statistics.add(tag, next);
      this.#untold.told(tag);
    };
    const told = await Promise.allSettled(this.#untold.tags().map(tell));
    for (const one of told) if (one.status === "rejected") throw one.reason;
  }
}
