/** Costly calls of one caller, one after another, so that none of them takes the store from everybody else; callers do not wait for each other. */

import { SwitchyardError } from "@switchyard/protocol";

interface Line {
  /** Resolves when the last of them is over. */
  last: Promise<void>;
  /** The one whose turn it is included. */
  calls: number;
}

export class Turns {
  readonly #mostInLine: number;
  readonly #lines = new Map<string, Line>();

  constructor(mostInLine: number) {
    this.#mostInLine = mostInLine;
  }

  /** Throws `rate_limited` when too many of this caller's wait already. */
  async take<T>(caller: string, call: () => Promise<T>): Promise<T> {
    const line = this.#lines.get(caller) ?? { last: Promise.resolve(), calls: 0 };
    if (line.calls >= this.#mostInLine) {
      const detail = `${line.calls} calls of this kind by this caller are under way already, and they are served one after another`;
      throw new SwitchyardError("rate_limited", detail, { retryAfterMs: 1_000 });
    }
    this.#lines.set(caller, line);
    line.calls += 1;
    const { last } = line;
    const turn = Promise.withResolvers<void>();
    line.last = turn.promise;
    try {
      await last;
      return await call();
    } finally {
      turn.resolve();
      line.calls -= 1;
      if (line.calls === 0) this.#lines.delete(caller);
    }
  }
}
