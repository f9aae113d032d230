/**
 * How long a request may have waited in its socket before this process read it. Each turn of the event loop reads all that has come, so what is
 * read now came after the turn before had begun to read; a loop that has slept in between read it at once.
 */

import type { Clock, LoopClock } from "../clock.ts";

export class TurnWait {
  readonly #clock: Pick<Clock, "monotonicMs"> & LoopClock;
  /** The last turn in which a request was read, and when the first of them was. */
  #turn = Number.NEGATIVE_INFINITY;
  #beganMs = 0;
  /** How long the loop had slept until then. */
  #idleMs = 0;
  /** Not earlier than this came what is read in that turn. */
  #cameAfterMs = 0;

  constructor(clock: Pick<Clock, "monotonicMs"> & LoopClock) {
    this.#clock = clock;
  }

  /** At most so many milliseconds, of a request whose headers were read in this turn. */
  waitedMs(): number {
    const nowMs = this.#clock.monotonicMs();
    const turn = this.#clock.turn();
    if (turn !== this.#turn) this.#begin(turn, nowMs);
    return nowMs - this.#cameAfterMs;
  }

  /** Of a turn that read no request nothing is known, and one after it is taken for one after sleep. */
  #begin(turn: number, nowMs: number): void {
    const idleMs = this.#clock.idleMs();
    const isNext = turn === this.#turn + 1 && idleMs === this.#idleMs;
    this.#cameAfterMs = isNext ? this.#beganMs : nowMs;
    this.#turn = turn;
    this.#beganMs = nowMs;
    this.#idleMs = idleMs;
  }
}
