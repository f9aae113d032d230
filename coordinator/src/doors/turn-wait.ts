/**
 * How long a request may have waited in its socket before this process read it. A busy event loop reads all that has come in a turn, so what is
 * read now came after the turn before had begun; a loop that has slept in between read it at once.
 */

import type { Clock, LoopClock } from "../clock.ts";

export class TurnWait {
  readonly #clock: Pick<Clock, "monotonicMs"> & LoopClock;
  /** When a request was first read in this turn, or in the last one. */
  #beganMs = 0;
  #idleMs = 0;
  /** Not earlier than this came what is read in this turn. */
  #cameAfterMs = 0;
  #isOpen = false;

  constructor(clock: Pick<Clock, "monotonicMs"> & LoopClock) {
    this.#clock = clock;
  }

  /** At most so many milliseconds, of a request whose headers were read in this turn. */
  waitedMs(): number {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#isOpen) this.#begin(nowMs);
    return nowMs - this.#cameAfterMs;
  }

  #begin(nowMs: number): void {
    const idleMs = this.#clock.idleMs();
    this.#cameAfterMs = idleMs > this.#idleMs ? nowMs : this.#beganMs;
    this.#beganMs = nowMs;
    this.#idleMs = idleMs;
    this.#isOpen = true;
    this.#clock.onTurnRead(() => {
      this.#isOpen = false;
    });
  }
}
