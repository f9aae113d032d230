/**
 * Shows how far something is: on a terminal how much of a job's time is used, and its state, silent elsewhere; of many items how many are done, by a
 * line now and then where there is no terminal. The only file that knows cli-progress, which is loaded with the first bar.
 */

import type { SingleBar } from "cli-progress";
import type { Clock } from "../clock.ts";
import { Pace } from "./batch/pace.ts";
import { shortDuration } from "./text-table.ts";

export interface Progress {
  say(state: string): void;
  /** Clears the line; may be called twice. */
  stop(): void;
}

const redrawMs = 100;
/** Nothing flickers for answers that come at once. */
const quietMs = 300;

/** Cursor and line wrapping stay as they are: a Ctrl-C would leave them so. */
async function newBar(format: string): Promise<SingleBar> {
  const { Presets, SingleBar } = await import("cli-progress");
  return new SingleBar({ format, stream: process.stderr, clearOnComplete: true, linewrap: true }, Presets.shades_classic);
}

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
    const made = await newBar("{state} [{bar}] {elapsed} of {limit} s");
    if (ended.signal.aborted) return;
    bar = made;
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

/** Between two lines where there is no terminal. */
const lineMs = 5_000;

export interface Count {
  done: number;
  failed: number;
}

/** Shows `count()` of `total` items until it is stopped, which must be. */
export function showCount(options: {
  hasTerminal: boolean;
  total: number;
  clock: Clock;
  count: () => Count;
  note: (line: string) => void;
}): { stop(): void } {
  const { clock, hasTerminal, total } = options;
  const ended = new AbortController();
  const pace = new Pace();
  let bar: SingleBar | undefined;
  const figures = () => {
    const { done, failed } = options.count();
    pace.saw(clock.monotonicMs(), done);
    const left = pace.leftMs(total);
    return {
      done,
      rate: grouped(Math.round(pace.perSecond)),
      left: (left !== undefined && shortDuration(left)) || "?",
      failedCount: failed,
    };
  };
  const payload = ({ rate, left, failedCount }: ReturnType<typeof figures>): object => ({
    rate,
    left,
    failed: failedCount > 0 ? `, ${grouped(failedCount)} failed` : "",
  });
  const show = async (): Promise<void> => {
    const first = figures();
    if (hasTerminal) {
      const made = await newBar("{value}/{total} [{bar}] {rate}/s, {left} left{failed}");
      if (ended.signal.aborted) return;
      bar = made;
      bar.start(total, first.done, payload(first));
    }
    for (;;) {
      await clock.sleep(bar === undefined ? lineMs : redrawMs, ended.signal);
      if (ended.signal.aborted) return;
      const now = figures();
      if (bar !== undefined) bar.update(now.done, payload(now));
      else {
        const percent = Math.floor((100 * now.done) / Math.max(1, total));
        const counts = `${grouped(now.done)} of ${grouped(total)} (${percent} %), ${grouped(now.failedCount)} failed`;
        options.note(`${counts}, ${now.rate}/s, ${now.left} left`);
      }
    }
  };
  show().catch(() => {}); // a closed terminal is no failure of the items
  return {
    stop: () => {
      if (!ended.signal.aborted) bar?.stop();
      ended.abort();
    },
  };
}

/** Thousands apart. */
export function grouped(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}
