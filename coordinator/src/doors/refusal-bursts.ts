/**
 * Refusals that leave together. A client that sleeps is woken by the write that answers it, which costs more than all else of a refusal: 26 µs each where
 * one is written between reading two requests, some 10 to a client that is awake. So those of a turn wait for each other, a few at a time
 * (docs/decisions/0022-a-coordinator-that-is-behind.md).
 */

import type { ServerResponse } from "node:http";
import { SwitchyardError } from "@switchyard/protocol";

/** More would have the first of them wait for long: one takes some 50 µs to be made. */
const mostTogether = 16;

interface Refusal {
  raw: Pick<ServerResponse, "destroyed" | "destroy">;
  send: () => unknown;
}

/** What a coordinator answers by the ten thousand, where it is behind. */
export function comesInBursts(error: unknown): boolean {
  return error instanceof SwitchyardError && error.code === "deadline_unattainable";
}

export class RefusalBursts {
  readonly #broken: (error: unknown) => void;
  readonly #atTurnsEnd: (run: () => void) => void;
  #waiting: Refusal[] = [];

  /** `broken` hears what one of them threw, whose connection ends. `atTurnsEnd` calls `run` when all is read that has come. */
  constructor(broken: (error: unknown) => void, atTurnsEnd: (run: () => void) => void = setImmediate) {
    this.#broken = broken;
    this.#atTurnsEnd = atTurnsEnd;
  }

  /** Calls `send` in this turn, with others; not if the client has gone by then. */
  add(raw: Refusal["raw"], send: Refusal["send"]): void {
    const count = this.#waiting.push({ raw, send });
    if (count === 1) this.#atTurnsEnd(() => this.#send());
    else if (count === mostTogether) this.#send();
  }

  #send(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { raw, send } of waiting) {
      try {
        if (!raw.destroyed) send();
      } catch (error) {
        raw.destroy(); // the others have clients of their own
        this.#broken(error);
      }
    }
  }
}
