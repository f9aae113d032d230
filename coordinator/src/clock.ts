/** The only file of this package that reads the clock, waits or draws chance. Everything else is given a Clock. */

import { performance } from "node:perf_hooks";

export interface Clock {
  /** Milliseconds since the epoch by this machine; never compare with another machine's. */
  nowMs(): number;
  /** Monotonic milliseconds with a fraction, for measuring durations. */
  monotonicMs(): number;
  /** Resolves after `ms`, or at once when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `run` once after `ms` unless the returned function is called first. Keeps no process alive. */
  after(ms: number, run: () => void): () => void;
  /** A number in [0, 1) for spreading load; never for decisions. */
  jitter(): number;
}

/** What the event loop does with its time. */
export interface LoopClock {
  /** Milliseconds that it has slept because nothing was to be done, since its start. */
  idleMs(): number;
  /** Calls `run` in every turn, when all is read that had come; wakes nothing. Until the returned function is called. */
  everyTurn(run: () => void): () => void;
}

export const systemClock: Clock & LoopClock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  idleMs: () => performance.nodeTiming.idleTime,
  everyTurn(run) {
    // one that holds the loop open would also keep it from sleeping
    const next = (): NodeJS.Immediate => setImmediate(turn).unref();
    const turn = (): void => {
      run();
      waiting = next();
    };
    let waiting = next();
    return () => clearImmediate(waiting);
  },
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
  jitter: () => Math.random(),
};
