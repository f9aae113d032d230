/** A clock that stands until the test moves it on. */

import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "../../coordinator/src/clock.ts";

export class ManualClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1);
  readonly #due: { atMs: number; run: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  jitter(): number {
    return 0;
  }

  after(ms: number, run: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, run };
    this.#due.push(timer);
    return () => {
      const at = this.#due.indexOf(timer);
      if (at >= 0) this.#due.splice(at, 1);
    };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const stop = this.after(ms, resolve);
      signal?.addEventListener("abort", () => {
        stop();
        resolve();
      });
    });
  }

  /** How many wait for a time. */
  get waiting(): number {
    return this.#due.length;
  }

  /** Everything that is due by then has run, in order, and what follows of it. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await turn();
    for (;;) {
      const next = this.#due.filter(({ atMs }) => atMs <= endMs).sort((one, other) => one.atMs - other.atMs)[0];
      if (!next) break;
      this.#due.splice(this.#due.indexOf(next), 1);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
      await turn();
    }
    this.#nowMs = endMs;
    await turn();
  }
}
