/**
 * How long a request waits in a busy event loop: in its socket until it is read, and its answer until it is written. An estimate: a turn reads
 * what had come when it began, so what a turn reads that did not sleep first came, on average, in the middle of the turn before.
 */

import { type LoopClock, type Turn, TurnTimes } from "@switchyard/protocol/event-loop";

export interface Waited {
  /** Until the request was read. */
  inMs: number;
  /** Until its job is sent on and its outcome read, by what lasted: one long turn after calm says nothing of the next. */
  outMs: number;
}

/** The rest of the turn that reads the request, that of the turn in which the outcome comes, and its place in the next: half of each. */
const turnsOut = 1.5;

export class TurnWait {
  readonly #turns: TurnTimes;
  /** Ends the watch. */
  readonly stop: () => void;
  /** How long the last turn read, and the one before it if the loop did not sleep between them. */
  #lastMs = 0;
  #beforeMs = 0;

  /** `onTurn` is told of each turn. */
  constructor(clock: LoopClock, onTurn: (turn: Turn) => void = () => {}) {
    this.#turns = new TurnTimes(clock, (turn) => {
      this.#turnRead(turn);
      onTurn(turn);
    });
    this.stop = this.#turns.stop;
  }

  /** Of a request that was read in this turn. */
  waited(): Waited {
    const { sleptMs, tookMs } = this.#turns.now();
    if (sleptMs > 0) return { inMs: tookMs, outMs: 0 };
    return { inMs: tookMs + this.#lastMs / 2, outMs: turnsOut * Math.min(this.#lastMs, this.#beforeMs) };
  }

  #turnRead({ sleptMs, tookMs }: Turn): void {
    this.#beforeMs = sleptMs > 0 ? 0 : this.#lastMs;
    this.#lastMs = tookMs;
  }
}
