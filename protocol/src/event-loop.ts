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
  /** How long the loop slept in it, which is not counted. */
  sleptMs: number;
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
    return { tookMs: Math.max(0, nowMs - this.#readMs - sleptMs), sleptMs };
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

const what =
  "what a callback that came due had to wait at most: the turn of the event loop that it came due in, nothing while the loop slept";

/** The series by their names, which are prom-client's: dashboards know them. */
const lagSeries = {
  nodejs_eventloop_lag_seconds: { help: `Of the last turn: ${what}`, read: (_all: Recorder, lastNs: number) => lastNs },
  nodejs_eventloop_lag_min_seconds: { help: `Least since the last page: ${what}`, read: ({ min }: Recorder) => min },
  nodejs_eventloop_lag_max_seconds: {
    help: `Most since the last page: ${what}`,
    read: (_all: Recorder, _lastNs: number, mostNs: number) => mostNs,
  },
  nodejs_eventloop_lag_mean_seconds: { help: `Mean since the last page: ${what}`, read: ({ mean }: Recorder) => mean },
  nodejs_eventloop_lag_stddev_seconds: { help: `Standard deviation since the last page: ${what}`, read: ({ stddev }: Recorder) => stddev },
  nodejs_eventloop_lag_p50_seconds: { help: `Half of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(50) },
  nodejs_eventloop_lag_p90_seconds: { help: `90 % of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(90) },
  nodejs_eventloop_lag_p99_seconds: { help: `99 % of all since the last page: ${what}`, read: (all: Recorder) => all.percentile(99) },
};

/** As often as prom-client looks. */
const betweenLooksMs = 20;
/** A process that stood still has not slept. */
const longestSleepMs = 10_000;

/**
 * The lag of an event loop, in the place of prom-client's own series. Those are made of a timer that woke the process every 20 ms, which was
 * more than half of what one at rest did, and could tell no lag below that. Percentiles are of time, as theirs are, and not of turns, of which the short
 * ones are many: each stands for the 20 ms that passed.
 */
export class EventLoopLag {
  /**
   * For `collectDefaultMetrics`, which cannot leave its own out: its timer, which would wake nobody before 24 days are over, goes with its series
   * as soon as they are replaced.
   */
  static readonly promClient = { eventLoopMonitoringPrecision: 2 ** 31 - 1 };
  readonly #looks: Recorder;
  #lastNs = 0;
  #mostNs = 0;
  /** Of work and of sleep, since the last look that fell in each. */
  #workedMs = 0;
  #sleptMs = 0;

  constructor(looks: Recorder) {
    this.#looks = looks;
  }

  /** Counts a turn. */
  turnTook({ sleptMs, tookMs }: Turn): void {
    this.#lastNs = Math.max(1, Math.round(tookMs * 1e6));
    if (this.#lastNs > this.#mostNs) this.#mostNs = this.#lastNs;
    this.#workedMs += tookMs;
    for (; this.#workedMs >= betweenLooksMs; this.#workedMs -= betweenLooksMs) this.#looks.record(this.#lastNs);
    this.#sleptMs += Math.min(sleptMs, longestSleepMs);
    for (; this.#sleptMs >= betweenLooksMs; this.#sleptMs -= betweenLooksMs) this.#looks.record(1);
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
    const looks = this.#looks;
    const all = Object.values(lagSeries).map(({ read }) => (looks.count === 0 ? 0 : read(looks, this.#lastNs, this.#mostNs)));
    looks.reset();
    this.#mostNs = 0;
    return all;
  }
}

type MetricFamilyLike = Pick<MetricFamily, "name" | "help" | "type"> & { get(): Promise<unknown>; reset(): void };
