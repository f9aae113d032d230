/** A loop: a name, a period and one call. It never overlaps itself, survives a failing call, and stops when asked. */

import { betweenMomentsMs, type Clock, type MomentClock, momentAfter } from "../clock.ts";
import type { Log } from "../ports/log.ts";

export interface Loop {
  name: string;
  /** From one start to the next; a call that takes longer is followed by half of it. */
  everyMs: number;
  /** At the moments that all such loops of the process share: then a multiple of `betweenMomentsMs`. */
  inStep?: true;
  /** By which share of the period it may be shorter, so that many processes that started together spread. */
  jitter?: number;
  call: () => Promise<void>;
  /** Resolves when there may be something to do; asked before each call, so that a process at rest is not woken. */
  wanted?: (signal: AbortSignal) => Promise<void>;
}

export class Loops {
  readonly #clock: Clock & MomentClock;
  readonly #log: Log;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>[] = [];

  constructor(clock: Clock & MomentClock, log: Log) {
    this.#clock = clock;
    this.#log = log;
  }

  start(loop: Loop): void {
    if (loop.inStep && loop.everyMs % betweenMomentsMs !== 0)
      throw new Error(`loop ${loop.name}: ${loop.everyMs} ms is no multiple of ${betweenMomentsMs}`);
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
      await this.#rest(loop, startedMs);
    }
  }

  async #rest(loop: Loop, startedMs: number): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const { everyMs, inStep, jitter = 0 } = loop;
    const momentMs = momentAfter(startedMs, everyMs);
    if (inStep && momentMs - nowMs >= everyMs / 2) return this.#until(momentMs);
    const periodMs = everyMs * (1 - jitter * this.#clock.jitter());
    // out of step half a period leads to the next moment, or to where it is far enough
    await this.#clock.sleep(inStep ? everyMs / 2 : Math.max(periodMs / 2, periodMs - (nowMs - startedMs)), this.#stop.signal);
  }

  #until(momentMs: number): Promise<void> {
    const { signal } = this.#stop;
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = (): void => {
        cancel();
        signal.removeEventListener("abort", end);
        resolve();
      };
      const cancel = this.#clock.atMoment(momentMs, end);
      signal.addEventListener("abort", end, { once: true });
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }
}
