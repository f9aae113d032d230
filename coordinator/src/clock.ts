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
  /** A number in [0, 1) for spreading load; never for decisions. */
  jitter(): number;
}

/** Moments that all which a process does every so often share: one at rest is woken once for all of it, and processes stay spread by their starts. */
export interface MomentClock {
  /** Calls `run` at that monotonic time, see `momentAfter`, unless the returned function is called first. Keeps no process alive. */
  atMoment(momentMs: number, run: () => void): () => void;
}

/** Milliseconds. Periods are multiples of it, so that a longer one's moments are a shorter one's too; the shortest of them have 250 to be over. */
export const betweenMomentsMs = 225;

/** When that is due next which was begun at `begunMs`, and is to be begun every so often: at most a period later, or a little more where it began early. */
export function momentAfter(begunMs: number, everyMs: number): number {
  return Math.floor((begunMs + everyMs + betweenMomentsMs / 16) / everyMs) * everyMs;
}

/** What is to be called at a moment. */
const moments = new Map<number, Set<() => void>>();

function dueAt(momentMs: number): Set<() => void> {
  let due = moments.get(momentMs);
  if (due) return due;
  due = new Set();
  moments.set(momentMs, due);
  const run = (): void => {
    moments.delete(momentMs);
    for (const one of due) one();
  };
  // rounded up; it may be early by what this turn took until now, for which `momentAfter` allows
  setTimeout(run, Math.max(0, Math.ceil(momentMs - performance.now()))).unref();
  return due;
}

export const systemClock: Clock & LoopClock & MomentClock = {
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
  atMoment(momentMs, run) {
    const due = dueAt(momentMs);
    const one = (): void => run();
    due.add(one);
    return () => due.delete(one);
  },
  jitter: () => Math.random(),
};
