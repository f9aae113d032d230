/** Who has the device while others wait for it: of each queue's run, how long others ran since the queue has had work. Pure but for its own sums. */

export class DeviceTimes {
  #ranMs = 0;
  /** Of each queue that has work, what all runs together had come to when it began to wait. */
  readonly #sinceMs = new Map<string, number>();

  /**
   * The queue may have work from now on; one that had some waits already. `atHandMs`: what the run at hand, which is not counted yet, has taken so far; below 0 where
   * the queue came to wait that long before the end of the last run.
   */
  waits(tag: string, atHandMs = 0): void {
    if (!this.#sinceMs.has(tag)) this.#sinceMs.set(tag, this.#ranMs + atHandMs);
  }

  /** Nothing waits in it. */
  rests(tag: string): void {
    this.#sinceMs.delete(tag);
  }

  /** A run of the queue is over; it may have more work. Answers how long others ran while it waited for that. */
  ran(tag: string, runMs: number): number {
    const othersMs = Math.max(0, this.#ranMs - (this.#sinceMs.get(tag) ?? this.#ranMs));
    this.#ranMs += runMs;
    this.#sinceMs.set(tag, this.#ranMs);
    return othersMs;
  }
}
