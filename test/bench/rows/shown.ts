/** Figures as text for tables of rows. */

import type { LatencySummary } from "../../../client-sdk/src/cli/bench/latencies.ts";
import type { Noise } from "../cell.ts";
import type { StreamFigures } from "../load/stream-tally.ts";
import { spreadOf } from "../statistics.ts";

/** Median and range over rounds; a dash where no round had a value. */
export function shown(values: readonly (number | undefined)[], digits: number): string {
  const known = values.filter((value) => value !== undefined);
  if (known.length === 0) return "–";
  const { median, low, high } = spreadOf(known);
  const text = median.toFixed(digits);
  return known.length === 1 ? text : `${text} (${low.toFixed(digits)}–${high.toFixed(digits)})`;
}

export function shownLatency(latency: LatencySummary | undefined): string {
  return latency === undefined ? "–" : `${latency.p50.toFixed(1)} / ${latency.p99.toFixed(1)} ms`;
}

/** One stream in one line, for the progress of a row. */
export function describeStream(figures: StreamFigures): string {
  const { jobs, seconds, counts, notSent, refusedBy, latencyMs, refusalMs, refusal, sentLateMs } = figures;
  const rate = (count: number): string => (count / seconds).toFixed(1);
  const refused = Object.entries(refusedBy).map(([code, count]) => `${code} ${count}`);
  const parts = [
    `${rate(jobs)} jobs/s offered, ${rate(counts["in time"])} in time, ${counts.late} late, ${counts.expired} expired`,
    `${counts.refused} refused${refused.length > 0 ? ` (${refused.join(", ")}; ${shownLatency(refusalMs)})` : ""}, ${counts.failed} failed`,
    `p50 / p99 ${shownLatency(latencyMs)}`,
  ];
  if (sentLateMs !== undefined) parts.push(`sent late by ${shownLatency(sentLateMs)}`);
  if (refusal !== undefined) parts.push(`the first refusal: ${refusal}`);
  if (notSent > 0) parts.push(`${notSent} NOT SENT: too many under way`);
  return parts.join("; ");
}

export function describeNoise({ strangersPercent, stealPercent, isNoisy }: Noise): string {
  return `(strangers ${strangersPercent} %, steal ${stealPercent} %${isNoisy ? " NOISY" : ""})`;
}

/** Throws when the load did not do what it was meant to do, or a job failed in a way that is neither refusal nor deadline. */
export function mustBeWhole(name: string, { counts, notSent, failure }: StreamFigures): void {
  if (counts.failed > 0) throw new Error(`${name}: ${counts.failed} jobs failed; the first: ${failure}`);
  if (notSent > 0) throw new Error(`${name}: ${notSent} jobs were not sent, because too many were under way`);
}
