/**
 * The waiting jobs of one queue in memory, by flow (a tenant in a class) and in the order of their latest start, and which of them a claim
 * takes. Who shares how, and what a batch may hold, is decided by the scheduler's figures; this file only counts and moves.
 */

import { classWeights, type JobClass, jobClasses } from "@switchyard/protocol";
import type { EndedAttempt, JobRecord } from "../ports/job-store.ts";
import { Arrivals, leastPassing, sharedEveryMs, sharedForMs } from "../scheduler/arrivals.ts";
import { type ClaimFigures, cannotFinish, deferUntil, mayJoin, waitingAlike } from "../scheduler/batch-plan.ts";
import { aheadOf, allot, type Backlog, charge, clockAfter, flowWeights, type Rival, startTag } from "../scheduler/fair-share.ts";
import { Batch, candidateOf, maxRoom, mostJobs, runsAlone } from "./memory-batch.ts";
import { OrderedJobs } from "./ordered-jobs.ts";

const lookAhead = 32;
/** That a claim finds too late, at most. */
export const mostDropped = 500;
const mostRounds = 4;
const mostSampled = 64;

export interface MemoryJob {
  record: JobRecord;
  orderMs: number;
  shapeClass: string;
  size: number;
  items: number;
  tenantWeight: number;
  failures: number;
  /** Gone with the end of all but dead letters. */
  inputs: readonly Uint8Array[] | undefined;
  awaited: boolean;
  incarnation: string;
  /** Those that let it wait again. */
  attempts: EndedAttempt[];
  /** When the record goes; endless while the job is open. */
  goneMs: number;
}

interface Flow {
  name: string;
  class: JobClass;
  tenantWeight: number;
  jobs: OrderedJobs<MemoryJob>;
  finish: number;
  /** Items of the largest job that was charged last. */
  largest: number;
  /** Of the time in which the queue is shared. */
  arrivals: Arrivals;
}

/** Figures of a claim for a job of this size, beside what the queue knows itself. */
export type FiguresOf = (size: number) => Omit<ClaimFigures, "waitingJobs">;

export interface Takings {
  taken: MemoryJob[];
  /** Jobs that could not have finished any more. */
  dropped: MemoryJob[];
  /** Set when it is better to wait for more. */
  deferUntilMs?: number;
}

const inOrder = (a: MemoryJob, b: MemoryJob): number => a.orderMs - b.orderMs || (a.record.id < b.record.id ? -1 : 1);

/** A flow's part of a batch: jobs that were looked at and left, items taken, and those of the last job and of the largest. */
interface Lane {
  flow: Flow;
  weight: number;
  /** The start tag of its first item. */
  start: number;
  at: number;
  served: number;
  last: number;
  largest: number;
}

interface Late {
  dropped: MemoryJob[];
  /** Whose place is kept all the same. */
  isKept: (job: MemoryJob) => boolean;
}

export class MemoryFlows {
  readonly #flows = new Map<string, Flow>();
  #virtual = 0;
  /** Arrivals count while flows wait beside each other, and for a while after that. */
  #sharedUntilMs = 0;
  readonly #arrivals = { interactive: new Arrivals(), standard: new Arrivals(), batch: new Arrivals() };
  waitingJobs = 0;
  waitingItems = 0;

  /** All that wait in a class, in order. */
  ofClass(one: JobClass): MemoryJob[] {
    const flows = [...this.#flows.values()].filter((flow) => flow.class === one);
    return flows.flatMap(({ jobs }) => [...jobs]).sort(inOrder);
  }

  /** How many wait in each flow that has any. */
  counts(): { tenant: string; class: JobClass; jobs: number }[] {
    return this.#waiting().map((flow) => ({ tenant: headOf(flow).record.tenant, class: flow.class, jobs: flow.jobs.length }));
  }

  /** The first of each flow. */
  heads(): MemoryJob[] {
    return this.#waiting().map(headOf);
  }

  /** The smallest latest start of all that wait. */
  firstStartMs(): number {
    return Math.min(...this.heads().map(({ orderMs }) => orderMs));
  }

  #waiting(): Flow[] {
    return [...this.#flows.values()].filter(({ jobs }) => jobs.length > 0);
  }

  #flowOf({ record, tenantWeight }: MemoryJob): Flow {
    const name = `${record.class} ${record.tenant}`;
    let flow = this.#flows.get(name);
    if (!flow) {
      flow = { name, class: record.class, tenantWeight, jobs: new OrderedJobs(inOrder), finish: 0, largest: 0, arrivals: new Arrivals() };
      this.#flows.set(name, flow);
    }
    flow.tenantWeight = tenantWeight;
    return flow;
  }

  /** A job comes, whatever becomes of it: arrivals are counted where another flow waits beside it, or did shortly before. */
  come(job: MemoryJob, nowMs: number): void {
    const own = this.#flowOf(job);
    const isShared = this.#waiting().some((flow) => flow !== own);
    const isDue = this.#sharedUntilMs < nowMs + sharedForMs - sharedEveryMs || this.#sharedUntilMs > nowMs + sharedForMs;
    if (isShared && isDue) this.#sharedUntilMs = nowMs + sharedForMs;
  }

  #isShared(nowMs: number): boolean {
    return this.#sharedUntilMs > nowMs && this.#sharedUntilMs <= nowMs + sharedForMs;
  }

  /** It is new; what waits again is not. */
  admit(job: MemoryJob, nowMs: number): void {
    if (this.#isShared(nowMs)) {
      this.#flowOf(job).arrivals.add(job.items, nowMs);
      this.#arrivals[job.record.class].add(job.items, nowMs);
    }
    this.add(job);
  }

  add(job: MemoryJob): void {
    this.#flowOf(job).jobs.add(job);
    this.waitingJobs++;
    this.waitingItems += job.items;
  }

  remove(job: MemoryJob): void {
    if (!this.#flowOf(job).jobs.remove(job)) return;
    this.waitingJobs--;
    this.waitingItems -= job.items;
  }

  /** Items that would be served before this job if it were added now; an estimate where they are more than may be. */
  ahead(job: MemoryJob, { mostAhead, withinMs = 0 }: { mostAhead: number; withinMs?: number }, nowMs: number): number {
    const own = this.#flowOf(job);
    const isShared = this.#isShared(nowMs);
    const comingOf = (arrivals: Arrivals): number => (isShared ? arrivals.expected(withinMs, nowMs) : 0);
    const waiting = this.#waiting().filter((flow) => flow !== own);
    const beside = waiting.filter((flow) => flow.class === own.class);
    const tenants = beside.map((flow): Rival => ({ items: flow.jobs.items, weight: flow.tenantWeight, coming: comingOf(flow.arrivals) }));
    const known = tenants.reduce((sum, { coming }) => sum + coming, comingOf(own.arrivals));
    // those that come now and then and have nothing waiting, together
    const passing = Math.max(0, comingOf(this.#arrivals[own.class]) - known);
    const others = [...this.#flows.values()].filter(
      (flow) => flow.class === own.class && flow !== own && flow.jobs.length === 0 && flow.arrivals.any && !flow.arrivals.isOver(nowMs),
    );
    if (passing >= leastPassing) tenants.push({ items: 0, weight: Math.max(1, others.length), coming: passing });
    const classes = jobClasses
      .filter((one) => one !== own.class)
      .map((one): Rival => {
        const items = waiting.filter((flow) => flow.class === one).reduce((sum, { jobs }) => sum + jobs.items, 0);
        return { items, weight: classWeights[one], coming: comingOf(this.#arrivals[one]) };
      });
    const of = { items: own.jobs.itemsBefore(job), weight: own.tenantWeight, classWeight: classWeights[own.class] };
    return aheadOf(of, { tenants, classes }, mostAhead);
  }

  /** Takes a batch of one shape class out of the queue, and what is too late for any. */
  take(known: FiguresOf, nowMs: number, { isAhead, maxItems }: { maxItems: number; isAhead: boolean }): Takings {
    const dropped: MemoryJob[] = [];
    const { waitingJobs } = this;
    const shapes = this.#shapes();
    const figuresOf = (job: MemoryJob): ClaimFigures => {
      const sample = { seen: shapes.seen, alike: shapes.alike.get(job.shapeClass) ?? 1 };
      return { ...known(job.size), waitingJobs: runsAlone(job) ? 1 : waitingAlike(waitingJobs, sample) };
    };
    // after the run at hand they would be late, and another host may be free sooner
    const isKept = (job: MemoryJob): boolean => isAhead && job.record.deadlineMs > nowMs;
    for (const flow of this.#waiting()) this.#dropHeads(flow, figuresOf, { dropped, isKept });
    const flows = this.#waiting();
    const [first] = flows;
    const deferUntilMs =
      first &&
      deferUntil(
        flows.map(headOf).map((job) => ({ ...job.record, runsAlone: runsAlone(job) })),
        this.waitingItems,
        figuresOf(headOf(first)),
      );
    if (deferUntilMs !== undefined && deferUntilMs > nowMs) return { taken: [], dropped, deferUntilMs };
    const batch = new Batch(maxItems, isAhead);
    this.#fill(batch, flows, figuresOf, { dropped, isKept });
    if (flows.length > 1) this.#forgetIdle(nowMs);
    return { taken: batch.jobs, dropped };
  }

  #forgetIdle(nowMs: number): void {
    for (const [name, flow] of this.#flows) {
      if (flow.jobs.length === 0 && flow.finish <= this.#virtual && flow.arrivals.isOver(nowMs)) this.#flows.delete(name);
    }
  }

  /** How many of each shape are among the first of all flows. */
  #shapes(): { seen: number; alike: Map<string, number> } {
    const flows = this.#waiting();
    const each = Math.ceil(mostSampled / flows.length);
    const shapes = { seen: 0, alike: new Map<string, number>() };
    for (const { jobs } of flows) {
      if (shapes.seen >= mostSampled) break;
      for (let at = 0; at < each && at < jobs.length; at++, shapes.seen++) {
        const { shapeClass } = jobs.at(at) as MemoryJob;
        shapes.alike.set(shapeClass, (shapes.alike.get(shapeClass) ?? 0) + 1);
      }
    }
    return shapes;
  }

  #dropHeads(flow: Flow, figuresOf: (job: MemoryJob) => ClaimFigures, { dropped, isKept }: Late): void {
    for (;;) {
      const job = flow.jobs.at(0);
      if (!job || isKept(job) || dropped.length >= mostDropped || !cannotFinish(candidateOf(job), figuresOf(job))) return;
      this.remove(job);
      dropped.push(job);
    }
  }

  /** Gives out slots until the batch is full, has grown as far as its deadlines allow, or nothing that waits fits in. */
  #fill(batch: Batch, flows: readonly Flow[], figuresOf: (job: MemoryJob) => ClaimFigures, late: Late): void {
    const weights = flowWeights(flows);
    const lanes = new Map<string, Lane>();
    for (const [at, flow] of flows.entries()) {
      const weight = weights[at] as number;
      const start = startTag({ finish: flow.finish, weight }, this.#virtual, Math.max(batch.maxItems, flow.largest));
      flow.finish = start;
      lanes.set(flow.name, { flow, weight, start, at: 0, served: 0, last: 0, largest: 0 });
    }
    const fit = (): Backlog[] =>
      [...lanes.values()].flatMap(({ at, flow, served, start, weight }) =>
        at < lookAhead && at < flow.jobs.length
          ? [{ name: flow.name, weight, waiting: itemsFrom(flow.jobs, at), finish: start + served / weight }]
          : [],
      );
    const meanItems = this.waitingItems / this.waitingJobs;
    const looked = (): number => [...lanes.values()].reduce((sum, { at }) => sum + at, batch.items + late.dropped.length);
    for (let round = 0, room = maxRoom(batch); round < mostRounds && room > 0 && !batch.closed; round++, room = maxRoom(batch)) {
      const before = looked();
      // of a claim that takes no more jobs than that each flow gets its part
      const slots = Math.min(room, Math.ceil((mostJobs - batch.jobs.length) * meanItems));
      for (const { name, slots: own } of allot(fit(), slots, this.#virtual)) {
        this.#serve(lanes.get(name) as Lane, own, batch, figuresOf, late);
        if (batch.closed) break;
      }
      if (looked() === before) break;
    }
    if (flows.length < 2) return;
    const [first] = batch.jobs;
    const isWaste = first && !runsAlone(first) && !batch.closed && maxRoom(batch) > 0 && fit().length === 0;
    this.#charge([...lanes.values()], isWaste && flows.some(({ jobs }) => jobs.length > 0) ? maxRoom(batch) / batch.items : 0);
  }

  #charge(lanes: readonly Lane[], waste: number): void {
    const lastStarts: number[] = [];
    for (const { flow, largest, last, served, start, weight } of lanes) {
      if (served === 0) continue;
      const tags = charge({ start, weight }, { items: served, last, waste });
      flow.finish = tags.finish;
      flow.largest = largest;
      lastStarts.push(tags.lastStart);
    }
    const waitingTags = lanes.filter(({ flow }) => flow.jobs.length > 0).map(({ flow }) => flow.finish);
    this.#virtual = clockAfter(this.#virtual, lastStarts, waitingTags);
  }

  /** Takes jobs of one flow until it has got so many items, or more by a part of the last job; what does not fit in keeps its place. */
  #serve(lane: Lane, slots: number, batch: Batch, figuresOf: (job: MemoryJob) => ClaimFigures, { dropped, isKept }: Late): void {
    const { flow } = lane;
    for (let left = slots; left > 0 && maxRoom(batch) > 0 && lane.at < flow.jobs.length && lane.at < lookAhead; ) {
      const job = flow.jobs.at(lane.at) as MemoryJob;
      const figures = figuresOf(job);
      if (cannotFinish(candidateOf(job), figures) && isKept(job)) {
        lane.at++;
      } else if (cannotFinish(candidateOf(job), figures)) {
        if (dropped.length >= mostDropped) return;
        this.remove(job);
        dropped.push(job);
      } else if (batch.endsBefore(job)) {
        batch.closed = true;
        return;
      } else if (!batch.fits(job)) {
        lane.at++;
      } else if (batch.jobs.length > 0 && !mayJoin(batch, candidateOf(job), figures)) {
        batch.closed = true;
        return;
      } else {
        this.remove(job);
        batch.add(job);
        lane.served += job.items;
        lane.last = job.items;
        lane.largest = Math.max(lane.largest, job.items);
        left -= job.items;
      }
    }
  }
}

/** Items of all jobs but the first so many, by their mean. */
function itemsFrom(jobs: OrderedJobs<MemoryJob>, at: number): number {
  return at === 0 ? jobs.items : Math.ceil((jobs.items * (jobs.length - at)) / jobs.length);
}

function headOf({ jobs }: Flow): MemoryJob {
  return jobs.at(0) as MemoryJob;
}
