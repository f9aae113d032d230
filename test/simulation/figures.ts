/** What a run of the simulation is judged by. Counted between two moments, so that neither the start nor the end of a load blurs it. */

import type { Arrival } from "./loads.ts";
import type { RunLog } from "./run-log.ts";

export interface Span {
  fromMs: number;
  untilMs: number;
}

export interface Figures {
  offered: number;
  /** Items in time, in parts of what full batches could have done. */
  goodput: number;
  /** Shares of what was offered. */
  inTime: number;
  refused: number;
  missed: number;
  /** Refused though an oracle could have done them, in parts of what it could have done. */
  falseRefusals: number;
  /** Device time whose result came too late, or never. */
  wasted: number;
  batchItems: number;
  lateStarts: number;
  p50WaitMs: number;
  p99WaitMs: number;
}

export function figuresOf(log: RunLog, span: Span, facts: { perMs: number; oracle: Uint8Array }): Figures {
  let [offered, offeredItems, inTime, refused, missed, falseRefusals, attainable] = [0, 0, 0, 0, 0, 0, 0];
  let [goodItems, deviceMs, wastedMs] = [0, 0, 0];
  for (const [at, arrival] of log.arrivals.entries()) {
    const outcome = log.outcomeOf(at);
    const finishedMs = log.finishedMs[at] as number;
    if (outcome === "in_time" && finishedMs >= span.fromMs && finishedMs < span.untilMs) goodItems += arrival.items;
    if (arrival.atMs < span.fromMs || arrival.atMs >= span.untilMs) continue;
    offered++;
    offeredItems += arrival.items;
    deviceMs += log.deviceMs[at] as number;
    if (outcome === "in_time") inTime++;
    else wastedMs += log.deviceMs[at] as number;
    if (outcome === "refused") refused++;
    else if (outcome !== "in_time") missed++;
    if (facts.oracle[at]) {
      attainable++;
      if (outcome === "refused") falseRefusals++;
    }
  }
  const waits = waitsOf(log, span);
  const spanMs = span.untilMs - span.fromMs;
  return {
    offered: offeredItems / (facts.perMs * spanMs),
    goodput: goodItems / (facts.perMs * spanMs),
    inTime: inTime / Math.max(1, offered),
    refused: refused / Math.max(1, offered),
    missed: missed / Math.max(1, offered),
    falseRefusals: falseRefusals / Math.max(1, attainable),
    wasted: wastedMs / Math.max(1e-9, deviceMs),
    batchItems: log.runItems / Math.max(1, log.runs),
    lateStarts: log.lateStarts,
    p50WaitMs: quantile(waits, 0.5),
    p99WaitMs: quantile(waits, 0.99),
  };
}

/** From arrival to the start of the run, of jobs that arrived in the span and were run. */
export function waitsOf(log: RunLog, span: Span, which: (arrival: Arrival) => boolean = () => true): number[] {
  const waits: number[] = [];
  for (const [at, arrival] of log.arrivals.entries()) {
    const waitMs = (log.startedMs[at] as number) - arrival.atMs;
    if (!Number.isNaN(waitMs) && arrival.atMs >= span.fromMs && arrival.atMs < span.untilMs && which(arrival)) waits.push(waitMs);
  }
  return waits.sort((a, b) => a - b);
}

export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

/** Device time by name, of jobs that were run in the span. */
export function deviceMsBy(log: RunLog, span: Span, nameOf: (arrival: Arrival) => string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [at, arrival] of log.arrivals.entries()) {
    const startedMs = log.startedMs[at] as number;
    if (!(startedMs >= span.fromMs && startedMs < span.untilMs)) continue;
    sums.set(nameOf(arrival), (sums.get(nameOf(arrival)) ?? 0) + (log.deviceMs[at] as number));
  }
  return sums;
}

/** 1 when all have the same, 1 / n when one has all. */
export function jainIndex(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}
