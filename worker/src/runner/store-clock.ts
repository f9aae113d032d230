/** What a host knows of the store's clock, by the answers of claims. Milliseconds. */
export class StoreClock {
  readonly #clock: { monotonicMs(): number; nowMs(): number };
  /** The store's time less the local one, never more than it is. */
  #leastAheadMs = 0;
  /** The same, never less than it is. */
  #mostAheadMs = Number.POSITIVE_INFINITY;
  /** The store's time less that of the machine's own clock, which may be set, but also goes on while the machine sleeps. */
  #aheadOfWallMs: number | undefined;

  constructor(clock: { monotonicMs(): number; nowMs(): number }) {
    this.#clock = clock;
  }

  /** What was sent at `sentMs`, by the local clock, was done at `nowMs`, by the store's, and its answer has just come. */
  heard(nowMs: number, sentMs: number): void {
    this.#mostAheadMs = nowMs - sentMs;
    this.#aheadOfWallMs = nowMs - this.#clock.nowMs();
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

  /**
   * From when on something is kept for a time by the store's clock, so that it is not kept for less: as `latestNowMs`, and just after the machine has slept as
   * well. Before anything was heard the machine's own clock stands for it.
   */
  keepingFromMs(): number {
    const wallMs = this.#clock.nowMs();
    return this.#aheadOfWallMs === undefined ? wallMs : Math.max(this.latestNowMs(), wallMs + this.#aheadOfWallMs);
  }

  /** The earliest moment of the local clock at which the store's may have shown that. */
  earliestLocalMs(storeMs: number): number {
    return storeMs - this.#mostAheadMs;
  }
}
