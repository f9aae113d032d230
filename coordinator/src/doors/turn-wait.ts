/**
 * How long a request waits in a busy event loop: in its socket until it is read, and its answer until it is written. An estimate: a turn reads
 * what had come when it began, so what a turn reads that did not sleep first came, on average, in the middle of the turn before.
 */

import type { Clock, LoopClock } from "../clock.ts";

export interface Waited {
  /** Until the request was read. */
  inMs: number;
  /** Until its job is sent on and its outcome read, by what lasted: one long turn after calm says nothing of the next. */
  outMs: number;
}

/** The rest of the turn that reads the request, that of the turn in which the outcome comes, and its place in the next: half of each. */
const turnsOut = 1.5;

export class TurnWait {
  readonly #clock: Pick<Clock, "monotonicMs"> & LoopClock;
  /** Ends the watch. */
  readonly stop: () => void;
  /** When the last turn had read all, and how long the loop had slept until then. */
  #readMs: number;
  #idleMs: number;
  /** How long the last turn read, and the one before it if the loop did not sleep between them. */
  #lastMs = 0;
  #beforeMs = 0;

  constructor(clock: Pick<Clock, "monotonicMs"> & LoopClock) {
    this.#clock = clock;
    this.#readMs = clock.monotonicMs();
    this.#idleMs = clock.idleMs();
    this.stop = clock.everyTurn(() => this.#turnRead());
  }

  /** Of a request that was read in this turn. */
  waited(): Waited {
    const { tookMs, slept } = this.#thisTurn();
    if (slept) return { inMs: tookMs, outMs: 0 };
    return { inMs: tookMs + this.#lastMs / 2, outMs: turnsOut * Math.min(this.#lastMs, this.#beforeMs) };
  }

  #turnRead(): void {
    const { tookMs, slept } = this.#thisTurn();
    this.#beforeMs = slept ? 0 : this.#lastMs;
    this.#lastMs = tookMs;
    this.#readMs = this.#clock.monotonicMs();
    this.#idleMs = this.#clock.idleMs();
  }

  /** All since the last turn had read that was not sleep: too much where timers or what is sent on took long before a sleep. */
  #thisTurn(): { tookMs: number; slept: boolean } {
    const sleptMs = this.#clock.idleMs() - this.#idleMs;
    return { tookMs: Math.max(0, this.#clock.monotonicMs() - this.#readMs - sleptMs), slept: sleptMs > 0 };
  }
}
