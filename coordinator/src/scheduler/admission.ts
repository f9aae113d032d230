/**
 * Whether a job can be done in time, before it is queued: how many items may be ahead of it. The store counts what is ahead in the same step
 * as it writes, and refuses by that bound. Pure; what is known of hosts may be a second old. What is unknown is not held against a job.
 */

import { backlogItemMs, type DeviceSharing, isStale, type RunEstimate, runMs, undivided } from "@switchyard/protocol";

/** Hosts of one class. */
export interface HostPool {
  hosts: number;
  estimate: RunEstimate | undefined;
  /** Of their time, where other queues have work on them; absent: all of it. */
  sharing?: DeviceSharing | undefined;
}

export interface QueueView {
  /** Hosts that could hold the model, warm or not. */
  capableHosts: number;
  /** What a model is said to need and no host has. */
  unmet?: readonly string[];
  /** Those that hold it, by class; while none does, those that could. */
  pools: readonly HostPool[];
  /** Whether each of them is running something. */
  busy: boolean;
  overheadMs: number;
  /** How long the load takes that must come first; 0 while a host holds the model. Who refuses a job for it must see to it that it happens. */
  loadMs: number;
  /** Largest batch. */
  maxItems: number;
}

export interface Asked {
  items: number;
  timeoutMs: number;
}

/** What may be ahead of a job that is to be done in time. */
export interface Bound {
  /** Items; Infinity where nothing is known, or to find out. */
  mostAhead: number;
  /** How long it takes until the last of them is served; 0 where the bound is of no promise. */
  withinMs: number;
}

export type Admission =
  | (Bound & {
      kind: "admit";
      /** Predicted run of the job alone, for its order key. */
      costMs: number;
      /** Let through although it may be late, because nothing has run lately: its run will tell how things are. */
      explores: boolean;
    })
  | { kind: "refuse"; code: "no_capable_host"; unmet: readonly string[] }
  | { kind: "refuse"; code: "deadline_unattainable"; estimatedMs: number; retryAfterMs: number };

export interface AdmissionRule {
  /** Kept of every timeout for what cannot be predicted: this, or a share if that is more. */
  leastMarginMs: number;
  marginShare: number;
}

export const admissionRule: AdmissionRule = { leastMarginMs: 5, marginShare: 0.1 };

/** What is left of a timeout after the margin. */
export function budgetMs(timeoutMs: number, { leastMarginMs, marginShare }: AdmissionRule = admissionRule): number {
  return timeoutMs - Math.max(leastMarginMs, marginShare * timeoutMs);
}

export function admission(job: Asked, view: QueueView, nowMs: number, rule: AdmissionRule = admissionRule): Admission {
  if (view.capableHosts === 0) return { kind: "refuse", code: "no_capable_host", unmet: view.unmet ?? [] };
  const pools = poolsOf(view);
  const budget = budgetMs(job.timeoutMs, rule);
  if (view.loadMs > 0 && view.loadMs > budget) return { kind: "refuse", code: "deadline_unattainable", ...prediction(job, view, 0) };
  const unbounded = Number.POSITIVE_INFINITY;
  if (!pools[0]) return { kind: "admit", mostAhead: unbounded, withinMs: 0, costMs: 0, explores: false };
  const costMs = runMs(pools[0].estimate.ladder, job.items);
  const bounds = pools.map((pool): Bound => {
    const mostAhead = mostAheadIn(pool, job, view, budget);
    return { mostAhead, withinMs: mostAhead > 0 && mostAhead < Infinity ? Math.ceil(residualMs(pool, view) + mostAhead / pool.rate) : 0 };
  });
  const bound = bounds.reduce((best, one) => (one.mostAhead > best.mostAhead ? one : best));
  // a batch for each host shows how things are now; more than that goes by what was known last, or a burst would be admitted to expire
  if (pools.every(({ estimate }) => isStale(estimate, nowMs))) {
    const batches = (pools.at(-1) as Pool).hosts * view.maxItems;
    return { kind: "admit", ...(bound.mostAhead < batches ? { mostAhead: batches, withinMs: 0 } : bound), costMs, explores: true };
  }
  if (bound.mostAhead >= 0) return { kind: "admit", ...bound, costMs, explores: false };
  return { kind: "refuse", code: "deadline_unattainable", ...prediction(job, view, 0) };
}

/** When a job with so many items ahead would be done, and when asking again may help. */
export function prediction(job: Asked, view: QueueView, ahead: number): { estimatedMs: number; retryAfterMs: number } {
  const finishesMs = poolsOf(view).map((pool) => finishMs(pool, job, view, ahead));
  const estimatedMs = Math.ceil(finishesMs.length > 0 ? Math.min(...finishesMs) : view.loadMs + view.overheadMs);
  return { estimatedMs, retryAfterMs: Math.max(1, Math.ceil(estimatedMs - budgetMs(job.timeoutMs))) };
}

/** Some host classes taken together, the fastest and those after it; a job is predicted to run on the slowest of them. */
interface Pool {
  hosts: number;
  /** Items that they run in a millisecond. */
  rate: number;
  estimate: RunEstimate;
  /** That other queues have a host before this one's next run, on average. */
  betweenMs: number;
}

function poolsOf({ pools, maxItems }: QueueView): Pool[] {
  const known = pools.filter((one): one is HostPool & { estimate: RunEstimate } => one.hosts > 0 && one.estimate !== undefined);
  known.sort((a, b) => runMs(a.estimate.ladder, maxItems) - runMs(b.estimate.ladder, maxItems));
  let [hosts, rate, between] = [0, 0, 0];
  return known.map((one) => {
    const sharing = one.sharing ?? undivided;
    hosts += one.hosts;
    rate += one.hosts / backlogItemMs(one.estimate.itemMs, maxItems, sharing);
    between += one.hosts * sharing.betweenMs;
    return { hosts, rate, estimate: one.estimate, betweenMs: between / hosts };
  });
}

/**
 * What passes before the first of the jobs ahead can start: a load, or what is left of the run that ends first, be it another queue's. Of a queue without
 * open jobs one is let through without that: its run tells how things are, or nothing would.
 */
function residualMs({ betweenMs, estimate, hosts }: Pool, { busy, loadMs }: QueueView): number {
  return loadMs + (busy ? (estimate.typicalMs + betweenMs) / (hosts + 1) : 0);
}

function finishMs(pool: Pool, job: Asked, view: QueueView, ahead: number): number {
  const batch = Math.min(view.maxItems, ahead + job.items);
  return residualMs(pool, view) + ahead / pool.rate + runMs(pool.estimate.ladder, Math.max(job.items, batch)) + view.overheadMs;
}

/** The largest number of items ahead with which the job is in time; −1 if it is not even with none. */
function mostAheadIn(pool: Pool, job: Asked, view: QueueView, budget: number): number {
  if (finishMs(pool, job, view, 0) > budget) return -1;
  const forAll = residualMs(pool, view) + view.overheadMs;
  let most = 0;
  const { ladder } = pool.estimate;
  // of a model that was just found to batch, only small runs may be known
  const isShort = (ladder.at(-1)?.[0] ?? 0) < view.maxItems;
  const rungs = isShort ? [...ladder, [view.maxItems, runMs(ladder, view.maxItems)] as const] : ladder;
  for (const [items, ms] of rungs) {
    const inTime = Math.floor((budget - forAll - ms) * pool.rate + 1e-9);
    const inBatch = items >= view.maxItems ? Number.POSITIVE_INFINITY : items - job.items;
    most = Math.max(most, Math.min(inTime, inBatch));
  }
  return most;
}
