/** The only file of this package that reads the clock or waits. */

export const nowMs = (): number => Date.now();

/** Calls `run` once, unless the returned function is called first. */
export function after(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
}

interface TimeLimit {
  /** Aborts with the caller's signal, or when the time is over. */
  signal: AbortSignal;
  /** Whether it was the time that ended it. */
  isOver(): boolean;
  restart(): void;
  /** Frees the timer. */
  release(): void;
}

/** Begins at once, and again with each restart. */
export function timeLimit(ms: number, stop: AbortSignal): TimeLimit {
  const own = new AbortController();
  const start = (): (() => void) => after(ms, () => own.abort());
  let cancel = start();
  return {
    signal: AbortSignal.any([stop, own.signal]),
    isOver: () => own.signal.aborted,
    restart() {
      cancel();
      cancel = start();
    },
    release: () => cancel(),
  };
}

/** Resolves after `ms`, or at once when the signal aborts. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const cancel = after(ms, resolve);
    signal.addEventListener(
      "abort",
      () => {
        cancel();
        resolve();
      },
      { once: true },
    );
  });
}
