/** A loop: a name, a period and one call. It never overlaps itself, survives a failing call, and stops when asked. */

import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";

export interface Loop {
  name: string;
  everyMs: number;
  /** Spreads many processes that started together; a share of the period. */
  jitter?: number;
  call: () => Promise<void>;
}

export class Loops {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  start(loop: Loop): void {
    this.#running.push(this.#run(loop));
  }

  async #run(loop: Loop): Promise<void> {
    let failing = false;
    while (!this.#stop.signal.aborted) {
      try {
        await loop.call();
        failing = false;
      } catch (error) {
        // told once per outage: a store that is away would fill the log
        if (!failing) this.#log.warn("loop_failed", { loop: loop.name, message: (error as Error).message });
        failing = true;
      }
      const spread = loop.everyMs * (loop.jitter ?? 0) * (this.#clock.jitter() - 0.5);
      await this.#clock.sleep(loop.everyMs + spread, this.#stop.signal);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }
}
