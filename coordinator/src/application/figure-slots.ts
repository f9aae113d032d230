/**
 * Figures of short spans of time, as they are counted: jobs by outcome, refusals by reason, how long jobs took, by model; device time and
 * waits by tenant. A slot of one coordinator is added to the same slot of the others, which its numbers allow. Pure; bounded in size.
 */

import type { ErrorCode, QuantilesView } from "@switchyard/protocol";
import type { Outcome } from "../ports/metrics.ts";

/** Models and tenants of one slot that are told apart; the rest share one entry, which has no name. */
const mostNamed = 64;
export const otherName = "";

const bucketsPerOctave = 4;
const firstBucketMs = 0.125;
const mostBuckets = 128; // up to ten days

/** Milliseconds by buckets that grow by a fifth each: bucket → how many. */
export type Spread = Record<number, number>;

export interface ModelFigures {
  admitted: number;
  refused: Partial<Record<ErrorCode, number>>;
  ended: Partial<Record<Outcome, number>>;
  total: Spread;
  queue: Spread;
}

export interface TenantFigures {
  jobs: number;
  deviceMs: number;
  queue: Spread;
}

/** JSON as it is. */
export interface Slot {
  models: Record<string, ModelFigures>;
  tenants: Record<string, TenantFigures>;
}

export function emptySlot(): Slot {
  return { models: {}, tenants: {} };
}

export function isEmpty(slot: Slot): boolean {
  return Object.keys(slot.models).length === 0 && Object.keys(slot.tenants).length === 0;
}

function named<T>(of: Record<string, T>, name: string, make: () => T): T {
  if (Object.hasOwn(of, name)) return of[name] as T;
  const key = Object.keys(of).length < mostNamed ? name : otherName;
  if (!Object.hasOwn(of, key)) of[key] = make();
  return of[key] as T;
}

export function modelIn(slot: Slot, model: string): ModelFigures {
  return named(slot.models, model, () => ({ admitted: 0, refused: {}, ended: {}, total: {}, queue: {} }));
}

export function tenantIn(slot: Slot, tenant: string): TenantFigures {
  return named(slot.tenants, tenant, () => ({ jobs: 0, deviceMs: 0, queue: {} }));
}

export function raise<K extends string>(counts: Partial<Record<K, number>>, name: K, by = 1): void {
  counts[name] = ((counts[name] as number | undefined) ?? 0) + by;
}

export function observe(spread: Spread, ms: number): void {
  const bucket = ms <= firstBucketMs ? 0 : Math.min(mostBuckets - 1, Math.ceil(bucketsPerOctave * Math.log2(ms / firstBucketMs)));
  spread[bucket] = (spread[bucket] ?? 0) + 1;
}

function addCounts(into: Record<string | number, number>, more: Readonly<Record<string | number, number>>): void {
  for (const [key, count] of Object.entries(more)) into[key] = (into[key] ?? 0) + count;
}

export function addModel(into: ModelFigures, more: ModelFigures): void {
  into.admitted += more.admitted;
  addCounts(into.refused as Record<string, number>, more.refused as Record<string, number>);
  addCounts(into.ended as Record<string, number>, more.ended as Record<string, number>);
  addCounts(into.total, more.total);
  addCounts(into.queue, more.queue);
}

export function addSlot(into: Slot, more: Slot): void {
  for (const [name, figures] of Object.entries(more.models)) addModel(modelIn(into, name), figures);
  for (const [name, { jobs, deviceMs, queue }] of Object.entries(more.tenants)) {
    const tenant = tenantIn(into, name);
    tenant.jobs += jobs;
    tenant.deviceMs += deviceMs;
    addCounts(tenant.queue, queue);
  }
}

/** The models that `mayUse` lets through, together. */
export function sumOf(slot: Slot, mayUse: (model: string) => boolean): ModelFigures {
  const sum = modelIn(emptySlot(), "sum");
  for (const [name, figures] of Object.entries(slot.models)) if (mayUse(name)) addModel(sum, figures);
  return sum;
}

/** Within a tenth of the truth: the middle of the bucket in which the quantile lies. */
export function quantileMs(spread: Spread, share: number): number | null {
  const buckets = Object.entries(spread)
    .map(([bucket, count]) => [Number(bucket), count] as const)
    .sort(([one], [other]) => one - other);
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return null;
  let left = Math.max(1, Math.ceil(share * total));
  for (const [bucket, count] of buckets) {
    left -= count;
    if (left <= 0) return Number((firstBucketMs * 2 ** ((bucket - 0.5) / bucketsPerOctave)).toPrecision(3));
  }
  return null;
}

export function quantiles(spread: Spread): QuantilesView {
  return { p50: quantileMs(spread, 0.5), p95: quantileMs(spread, 0.95), p99: quantileMs(spread, 0.99) };
}

const sumOfCounts = (counts: Partial<Record<string, number>>): number =>
  Object.values(counts).reduce<number>((sum, count) => sum + (count ?? 0), 0);

/** As views count jobs. */
export function countsOf({ admitted, refused, ended }: ModelFigures) {
  const refusals = sumOfCounts(refused);
  const { succeeded = 0, failed = 0, cancelled = 0, expired = 0 } = ended;
  return { offered: admitted + refusals, refused: refusals, succeeded, failed, cancelled, expired };
}
