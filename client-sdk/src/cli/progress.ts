/** Shows on a terminal how much of a job's time is used, and its state. Silent elsewhere. The only file that knows cli-progress. */

import { Presets, SingleBar } from "cli-progress";
import type { Clock } from "../clock.ts";

export interface Progress {
  say(state: string): void;
  /** Clears the line; may be called twice. */
  stop(): void;
}

const redrawMs = 100;
/** Nothing flickers for answers that come at once. */
const quietMs = 300;

/** @param limitMs the time that the job has */
export function showProgress(options: { hasTerminal: boolean; state: string; limitMs: number; clock: Clock }): Progress {
  const { clock, limitMs } = options;
  if (!options.hasTerminal) return { say() {}, stop() {} };
  const ended = new AbortController();
  let { state } = options;
  let bar: SingleBar | undefined;
  const draw = async (): Promise<void> => {
    const startedMs = clock.monotonicMs();
    await clock.sleep(quietMs, ended.signal);
    if (ended.signal.aborted) return;
    // Cursor and line wrapping stay as they are: a Ctrl-C would leave them so.
    bar = new SingleBar(
      { format: "{state} [{bar}] {elapsed} of {limit} s", stream: process.stderr, clearOnComplete: true, linewrap: true },
      Presets.shades_classic,
    );
    const payload = (): object => ({
      state: state.padEnd(8),
      elapsed: ((clock.monotonicMs() - startedMs) / 1000).toFixed(1),
      limit: Math.round(limitMs / 1000),
    });
    bar.start(limitMs, 0, payload());
    while (!ended.signal.aborted) {
      bar.update(Math.min(limitMs, clock.monotonicMs() - startedMs), payload());
      await clock.sleep(redrawMs, ended.signal);
    }
  };
  const drawn = draw();
  drawn.catch(() => {}); // a closed terminal is no failure of the job
  return {
    say: (next) => {
      state = next;
    },
    stop: () => {
      if (!ended.signal.aborted) bar?.stop();
      ended.abort();
    },
  };
}
