/** What a host knows of the store's clock, by the answers of claims. Milliseconds. */
export class StoreClock {
  readonly #clock: { monotonicMs(): number };
  /** The store's time less the local one, never more than it is. */
  #leastAheadMs = 0;
  /** The same, never less than it is. */
  #mostAheadMs = Number.POSITIVE_INFINITY;

  constructor(clock: { monotonicMs(): number }) {
    this.#clock = clock;
  }

  /** What was sent at `sentMs`, by the local clock, was done at `nowMs`, by the store's, and its answer has just come. */
  heard(nowMs: number, sentMs: number): void {
    this.#mostAheadMs = nowMs - sentMs;
    // what an answer that was quicker on its way has shown holds as long as this one allows it
    const leastMs = nowMs - this.#clock.monotonicMs();
    this.#leastAheadMs = Math.max(leastMs, Math.min(this.#leastAheadMs, this.#mostAheadMs));
  }

  /** The store's time now, or a little earlier. */
  nowMs(): number {
    return this.storeMs(this.#clock.monotonicMs());
  }

  /** As `nowMs`, for a moment of the local clock. */
  storeMs(localMs: number): number {
    return localMs + this.#leastAheadMs;
  }

  /** The moment of the local clock at which the store's shows that, or a little later. */
  localMs(storeMs: number): number {
    return storeMs - this.#leastAheadMs;
  }

  /** The store's time now, or later: infinitely so before anything was heard. */
  latestNowMs(): number {
    return this.#clock.monotonicMs() + this.#mostAheadMs;
  }

  /** The earliest moment of the local clock at which the store's may have shown that. */
  earliestLocalMs(storeMs: number): number {
    return storeMs - this.#mostAheadMs;
  }
}
