/** Many durations in little memory, on Node's own histogram: three figures of any duration from a microsecond to a day. */

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

export interface LatencySummary {
  count: number;
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

const dayUs = 86_400e6;

export class Latencies {
  readonly #us: RecordableHistogram = createHistogram({ lowest: 1, highest: dayUs, figures: 3 });

  record(ms: number): void {
    this.#us.record(Math.min(dayUs, Math.max(1, Math.round(ms * 1000))));
  }

  /** In milliseconds; undefined while nothing was recorded. */
  summary(): LatencySummary | undefined {
    const us = this.#us;
    if (us.count === 0) return undefined;
    const at = (percent: number): number => us.percentile(percent) / 1000;
    return { count: us.count, mean: us.mean / 1000, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: us.max / 1000 };
  }
}
