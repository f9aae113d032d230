/**
 * Refusals that leave together. A client that sleeps is woken by the write that answers it, which costs more than all else of a refusal: 26 µs each where
 * one is written between reading two requests, some 10 where they leave one behind another. So those of a turn wait for each other, a few at a time.
 */

/** More would have the first of them wait for long: one takes some 50 µs to be made. */
const mostTogether = 16;

export class RefusalBursts {
  readonly #atTurnsEnd: (run: () => void) => void;
  #sends: (() => void)[] = [];

  /** `atTurnsEnd` calls `run` when all is read that has come. */
  constructor(atTurnsEnd: (run: () => void) => void = setImmediate) {
    this.#atTurnsEnd = atTurnsEnd;
  }

  /** Calls `send` in this turn, with others. It must not throw. */
  add(send: () => void): void {
    const count = this.#sends.push(send);
    if (count === 1) this.#atTurnsEnd(() => this.#send());
    else if (count === mostTogether) this.#send();
  }

  #send(): void {
    const sends = this.#sends;
    this.#sends = [];
    for (const send of sends) send();
  }
}
