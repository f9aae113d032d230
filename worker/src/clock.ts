/** The only file of this package that reads the clock, waits or draws chance. Everything else is given a Clock. */

import { performance } from "node:perf_hooks";
import { everyTurn, type LoopClock } from "@switchyard/protocol/event-loop";

export interface Clock {
  /** Milliseconds since the epoch by this machine; never compare with another machine's. */
  nowMs(): number;
  /** Monotonic milliseconds with a fraction, for measuring durations. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `run` once after `ms` unless the returned function is called first. Keeps no process alive. */
  after(ms: number, run: () => void): () => void;
  /** Resolves when what had arrived for this thread has been heard: messages, data, timers that were due. */
  turn(): Promise<void>;
  /** A number in [0, 1) for spreading load; never for decisions. */
  jitter(): number;
}

export const systemClock: Clock & LoopClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  idleMs: () => performance.nodeTiming.idleTime,
  everyTurn,
  sleep(ms, signal) {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener("abort", end, { once: true });
    });
  },
  after(ms, run) {
    const timer = setTimeout(run, ms);
    if (typeof timer === "object") timer.unref();
    return () => clearTimeout(timer);
  },
  // the first ends the phase that we are in, the second comes after the next look at what has arrived
  turn: () => new Promise((resolve) => setImmediate(() => setImmediate(resolve))),
  jitter: () => Math.random(),
};
