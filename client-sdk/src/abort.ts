/** Abort signals with a time limit that is told apart from the caller's own abort. */

import type { Clock } from "./clock.ts";

export interface TimeLimit {
  /** Aborts with the caller's signal or when the time is over. Undefined if neither exists. */
  signal: AbortSignal | undefined;
  /** Whether it was the time that ended it. */
  isOver(): boolean;
  /** Starts the time again; does nothing without a limit, or after its release: a piece may come when nobody waits any more. */
  restart(): void;
  /** Frees the timer. */
  release(): void;
}

/** The longest that runtimes' timers hold; they take more for next to nothing. It is 24.8 days, and who waits longer is not ended by us. */
const longestTimerMs = 2 ** 31 - 1;

/** @param limitMs undefined means no limit */
export function timeLimit(clock: Clock, limitMs: number | undefined, caller: AbortSignal | undefined): TimeLimit {
  if (limitMs === undefined || limitMs > longestTimerMs) return { signal: caller, isOver: () => false, restart() {}, release() {} };
  const own = new AbortController();
  const start = (): (() => void) => clock.after(Math.max(0, limitMs), () => own.abort());
  let stop = start();
  let isReleased = false;
  return {
    signal: caller === undefined ? own.signal : AbortSignal.any([caller, own.signal]),
    isOver: () => own.signal.aborted,
    restart() {
      stop();
      if (!isReleased) stop = start();
    },
    release() {
      isReleased = true;
      stop();
    },
  };
}
