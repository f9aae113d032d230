/** A loop: a name, a period and one call. It never overlaps itself, survives a failing call, and stops when asked. */

import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";

export interface Loop {
  name: string;
  /** From one start to the next; a call that takes longer is followed by half of it. */
  everyMs: number;
  /** By which share of the period it may be shorter, so that many processes that started together spread. */
  jitter?: number;
  call: () => Promise<void>;
  /** Resolves when there may be something to do; asked before each call, so that a process at rest is not woken. */
  wanted?: (signal: AbortSignal) => Promise<void>;
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
    for (;;) {
      let startedMs = this.#clock.monotonicMs();
      try {
        await loop.wanted?.(this.#stop.signal);
        if (this.#stop.signal.aborted) return;
        startedMs = this.#clock.monotonicMs();
        await loop.call();
        failing = false;
      } catch (error) {
        // told once per outage: a store that is away would fill the log
        if (!failing) this.#log.warn("loop_failed", { loop: loop.name, message: (error as Error).message });
        failing = true;
      }
      const periodMs = loop.everyMs * (1 - (loop.jitter ?? 0) * this.#clock.jitter());
      const tookMs = this.#clock.monotonicMs() - startedMs;
      await this.#clock.sleep(Math.max(periodMs / 2, periodMs - tookMs), this.#stop.signal);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }
}
