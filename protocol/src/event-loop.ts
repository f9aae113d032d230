/** What an event loop does with its time, and the series that tell it. Nothing here wakes a process that sleeps. */

import type { MetricFamily } from "./metrics.ts";

/** A process's clock, as far as its event loop is concerned. */
export interface LoopClock {
  /** Monotonic milliseconds with a fraction. */
  monotonicMs(): number;
  /** Milliseconds that the loop has slept because nothing was to be done, since its start. */
  idleMs(): number;
  /** Calls `run` in every turn, when all is read that had come; wakes nothing. Until the returned function is called. */
  everyTurn(run: () => void): () => void;
}

/** As in LoopClock. */
export function everyTurn(run: () => void): () => void {
  // one that holds the loop open would also keep it from sleeping
  const next = (): NodeJS.Immediate => setImmediate(turn).unref();
  const turn = (): void => {
    run();
    waiting = next();
  };
  let waiting = next();
  return () => clearImmediate(waiting);
}

export interface Turn {
  tookMs: number;
  /** Whether the loop slept in it, which is not counted. */
  slept: boolean;
}

/** Measures turns, each from one moment when all is read to the next. */
export class TurnTimes {
  readonly #clock: LoopClock;
  /** Ends the watch. */
  readonly stop: () => void;
  /** When the last turn had read all, and how long the loop had slept until then. */
  #readMs: number;
  #idleMs: number;

  /** `onTurn` is told of each turn as it ends. */
  constructor(clock: LoopClock, onTurn: (turn: Turn) => void) {
    this.#clock = clock;
    this.#readMs = clock.monotonicMs();
    this.#idleMs = clock.idleMs();
    this.stop = clock.everyTurn(() => {
      const nowMs = this.#clock.monotonicMs();
      const idleMs = this.#clock.idleMs();
      const turn = this.#until(nowMs, idleMs);
      this.#readMs = nowMs;
      this.#idleMs = idleMs;
      onTurn(turn);
    });
  }

  /** Until now. All since the last turn had read that was not sleep: too much where timers or what is sent on took long before a sleep. */
  now(): Turn {
    return this.#until(this.#clock.monotonicMs(), this.#clock.idleMs());
  }

  #until(nowMs: number, idleMs: number): Turn {
    const sleptMs = idleMs - this.#idleMs;
    return { tookMs: Math.max(0, nowMs - this.#readMs - sleptMs), slept: sleptMs > 0 };
  }
}

/** What is needed of node's RecordableHistogram, in nanoseconds. */
interface Recorder {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly stddev: number;
  percentile(percentile: number): number;
  record(value: number): void;
  reset(): void;
}

/** What is needed of prom-client's registry. */
interface LagRegistry {
  removeSingleMetric(name: string): void;
  registerMetric(metric: never): void;
}

const what = "how long a turn of the event loop took, sleep left out: what a callback that came due had to wait at most";

/** The series by their names, which are prom-client's: dashboards know them. */
const lagSeries = {
  nodejs_eventloop_lag_seconds: { help: `Of the last turn: ${what}`, read: (_: Recorder, lastNs: number) => lastNs },
  nodejs_eventloop_lag_min_seconds: { help: `Least since the last page: ${what}`, read: ({ min }: Recorder) => min },
  nodejs_eventloop_lag_max_seconds: { help: `Most since the last page: ${what}`, read: ({ max }: Recorder) => max },
  nodejs_eventloop_lag_mean_seconds: { help: `Mean since the last page: ${what}`, read: ({ mean }: Recorder) => mean },
  nodejs_eventloop_lag_stddev_seconds: { help: `Standard deviation since the last page: ${what}`, read: ({ stddev }: Recorder) => stddev },
  nodejs_eventloop_lag_p50_seconds: { help: `Half of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(50) },
  nodejs_eventloop_lag_p90_seconds: { help: `90 % of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(90) },
  nodejs_eventloop_lag_p99_seconds: { help: `99 % of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(99) },
};

/**
 * The lag of an event loop, in the place of prom-client's own series. Those are made of a timer that woke the process every 20 ms, which was
 * more than half of what one at rest did, and could tell no lag below that.
 */
export class EventLoopLag {
  /**
   * For `collectDefaultMetrics`, which cannot leave its own out: its timer, which would wake nobody before 24 days are over, goes with its series
   * as soon as they are replaced.
   */
  static readonly promClient = { eventLoopMonitoringPrecision: 2 ** 31 - 1 };
  readonly #turns: Recorder;
  #lastNs = 0;

  constructor(turns: Recorder) {
    this.#turns = turns;
  }

  /** Counts a turn. */
  turnTook(ms: number): void {
    this.#lastNs = Math.max(1, Math.round(ms * 1e6));
    this.#turns.record(this.#lastNs);
  }

  /** Each page tells of the time since the one before it. */
  replaceIn(registry: LagRegistry): void {
    let page: number[] = [];
    const names = Object.keys(lagSeries) as (keyof typeof lagSeries)[];
    for (const [at, name] of names.entries()) {
      registry.removeSingleMetric(name);
      const { help } = lagSeries[name];
      const get = async () => {
        if (at === 0) page = this.#take(); // a registry asks its metrics in their order, and all at once
        return { name, help, type: "gauge", values: [{ labels: {}, value: page[at]! / 1e9 }], aggregator: "average" };
      };
      registry.registerMetric({ name, help, type: "gauge", get, reset() {} } satisfies MetricFamilyLike as never);
    }
  }

  #take(): number[] {
    const all = Object.values(lagSeries).map(({ read }) => (this.#turns.count === 0 ? 0 : read(this.#turns, this.#lastNs)));
    this.#turns.reset();
    return all;
  }
}

type MetricFamilyLike = Pick<MetricFamily, "name" | "help" | "type"> & { get(): Promise<unknown>; reset(): void };
