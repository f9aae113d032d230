/**
 * A cluster in simulated time: the scheduler's own modules and the memory store, between arrivals and hosts that only pretend to run. It moves
 * jobs from admission to outcome and keeps a log; it decides nothing that the product decides.
 */

import type { JobState } from "@switchyard/protocol";
import type { MemoryJob } from "../../coordinator/src/adapters/memory-flows.ts";
import { type ClaimedJob, MemoryQueue, type RunOutcome } from "../../coordinator/src/adapters/memory-queue.ts";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { type AdmissionRule, admission, admissionRule, type QueueView } from "../../coordinator/src/scheduler/admission.ts";
import { type SeededRandom, seededRandom } from "../../scripts/seeded-random.ts";
import type { HeldTicket } from "../../worker/src/runner/ticket-rotation.ts";
import type { Arrival } from "./loads.ts";
import { drawRunMs, type HostSpec, type ModelSpec, warmUpOf } from "./machines.ts";
import type { Policy } from "./policies.ts";
import { type HistoryRule, historyRule, RunHistory } from "./run-history.ts";
import { RunLog } from "./run-log.ts";
import { SimulatedHost } from "./simulated-host.ts";
import { Timeline } from "./timeline.ts";

export interface ClusterSetup {
  seed: number;
  models: readonly ModelSpec[];
  hosts: readonly HostSpec[];
  arrivals: readonly Arrival[];
  policy: Policy;
  untilMs: number;
  history?: HistoryRule;
  admission?: AdmissionRule;
  /** Share of runs that fail. */
  failures?: number;
  /** How many times too slow the first estimates are; a load from before a machine got well. */
  poisoned?: number;
  onProgress?: (atMs: number) => void;
}

interface Queue {
  model: ModelSpec;
  store: MemoryQueue;
  /** Tickets that BullMQ would deliver. */
  offers: string[];
  hosts: SimulatedHost[];
  /** How many of them are alive. */
  alive: number;
  histories: Map<string, RunHistory>;
  view: QueueView | undefined;
  viewedMs: number;
  /** Whose turn it is to hear of an offer first. */
  turn: number;
}

const deliveryMs = 0.5;
const besideRunMs = 0.3;
const sweepMs = 250;
const silentMs = 3_000;
/** How long a coordinator judges by one view of a queue. */
const viewMs = 20;
const endlessMs = 1e9;
const maxAttempts = 3;

export class Cluster {
  readonly #setup: ClusterSetup;
  readonly #time = new Timeline();
  readonly #random: SeededRandom;
  readonly #queues = new Map<string, Queue>();
  readonly #hosts: SimulatedHost[];
  readonly #log: RunLog;

  constructor(setup: ClusterSetup) {
    this.#setup = setup;
    this.#random = seededRandom(setup.seed + 1);
    this.#log = new RunLog(setup.arrivals);
    this.#hosts = setup.hosts.map((spec) => new SimulatedHost(spec));
    for (const model of setup.models) this.#queues.set(model.name, this.#openQueue(model));
    for (const host of this.#hosts) this.#planDeath(host);
    this.#time.after(sweepMs, () => this.#sweepAll());
  }

  run(): RunLog {
    const { arrivals, untilMs, onProgress } = this.#setup;
    for (const [at, arrival] of arrivals.entries()) {
      this.#time.runUntil(arrival.atMs);
      this.#admit(arrival, at);
      if (at % 10_000 === 0) onProgress?.(arrival.atMs);
    }
    this.#time.runUntil(untilMs);
    return this.#log;
  }

  #openQueue(model: ModelSpec): Queue {
    const hosts = this.#hosts.filter(({ spec }) => spec.models.includes(model.name));
    const store = new MemoryQueue(model.name, {
      ended: (job) => this.#ended(queue, job),
      wake: (incarnation) => this.#wake(queue, incarnation),
    });
    const queue: Queue = {
      model,
      store,
      offers: [],
      hosts,
      alive: hosts.length,
      histories: new Map(),
      view: undefined,
      viewedMs: 0,
      turn: 0,
    };
    for (const { spec } of hosts) {
      if (queue.histories.has(spec.kind)) continue;
      const history = new RunHistory(warmUpOf(model, spec), model.maxItems, this.#setup.history ?? historyRule);
      queue.histories.set(spec.kind, history);
      this.#poison(history, model, spec);
    }
    return queue;
  }

  #poison(history: RunHistory, model: ModelSpec, host: HostSpec): void {
    const { poisoned } = this.#setup;
    if (!poisoned) return;
    for (let at = 0; at < 60; at++) {
      const items = at % 2 ? 1 : model.maxItems;
      const runMs = poisoned * drawRunMs(model, host, items, this.#random);
      history.add({ items, runMs, atMs: 0, overheadMs: besideRunMs });
    }
  }

  // ---- admission

  #view(queue: Queue): QueueView {
    const nowMs = this.#time.nowMs;
    if (queue.view && nowMs - queue.viewedMs < viewMs) return queue.view;
    const { model, hosts, histories } = queue;
    const live = hosts.filter(({ alive }) => alive);
    const warm = live.filter(({ loaded }) => loaded.has(model.name));
    const serving = warm.length > 0 ? warm : live;
    const pools = [...histories].map(([kind, history]) => ({
      hosts: serving.filter(({ spec }) => spec.kind === kind).length,
      estimate: history.estimate(nowMs),
      sharing: history.sharing(nowMs),
    }));
    queue.view = {
      capableHosts: live.length,
      pools,
      busy: queue.store.jobs.size > 0,
      overheadMs: Math.max(...[...histories.values()].map((one) => one.overheadMs)),
      loadMs: warm.length > 0 ? 0 : model.loadMs,
      maxItems: model.maxItems,
    };
    queue.viewedMs = nowMs;
    return queue.view;
  }

  #admit(arrival: Arrival, at: number): void {
    const { policy } = this.#setup;
    const queue = this.#queues.get(arrival.model) as Queue;
    const nowMs = Math.floor(arrival.atMs);
    const { items, timeoutMs } = arrival;
    const id = `${arrival.model}-${at}`;
    const decided = admission({ items, timeoutMs }, this.#view(queue), nowMs, this.#setup.admission ?? admissionRule);
    if (decided.kind === "refuse" && policy.admission) {
      this.#log.end(at, "refused", arrival.atMs);
      return;
    }
    const known = decided.kind === "admit" ? decided : { costMs: 0, mostAhead: Number.POSITIVE_INFINITY, withinMs: 0 };
    const job: NewJob = {
      ...{
        id,
        model: arrival.model,
        version: 1,
        items,
        shapeClass: "x",
        size: 0,
        maxAttempts,
        ttlMs: 0,
        held: true,
        callerWaits: true,
        inputs: [],
        wait: false,
      },
      class: policy.fair ? arrival.class : "standard",
      tenant: policy.fair ? arrival.tenant : "all",
      tenantWeight: policy.fair ? arrival.tenantWeight : 1,
      timeoutMs: policy.drop ? timeoutMs : endlessMs,
      latestStartMs: policy.order === "arrival" ? 0 : Math.max(0, Math.floor(timeoutMs - known.costMs)),
      mostAhead: policy.admission ? known.mostAhead : Number.POSITIVE_INFINITY,
      withinMs: known.withinMs,
    };
    const { answer } = queue.store.admit(job, nowMs, Number.POSITIVE_INFINITY);
    if (answer === "refused") this.#log.end(at, "refused", arrival.atMs);
    else this.#issue(queue, false, nowMs + job.latestStartMs);
  }

  #issue(queue: Queue, repair: boolean, urgentMs?: number): void {
    this.#offer(queue, queue.store.issue(this.#nowMs(), queue.alive, queue.model.maxItems, repair, urgentMs));
  }

  #offer(queue: Queue, tickets: readonly string[]): void {
    for (const ticketId of tickets) {
      queue.offers.push(ticketId);
      this.#time.after(deliveryMs, () => this.#deliver(queue));
    }
  }

  /** An offer reaches a host that is idle; hosts that are not look for offers when they are done. */
  #deliver(queue: Queue): void {
    if (queue.offers.length === 0) return;
    const { hosts } = queue;
    for (let step = 0; step < hosts.length; step++) {
      const host = hosts[(queue.turn + step) % hosts.length] as SimulatedHost;
      if (!host.idle || host.holds(queue.model.name)) continue;
      queue.turn = (queue.turn + step + 1) % hosts.length;
      this.#next(host);
      return;
    }
  }

  #wake(queue: Queue, incarnation: string): void {
    const host = queue.hosts.find((one) => one.incarnation === incarnation);
    host?.rotation.wake(queue.model.name);
    this.#time.after(deliveryMs, () => host && this.#next(host));
  }

  // ---- hosts

  /** The store's clock: whole milliseconds. */
  #nowMs(): number {
    return Math.floor(this.#time.nowMs);
  }

  /** What a host does when it is free: takes what is offered, then asks its queues in turn until one has a batch. */
  #next(host: SimulatedHost): void {
    if (!host.idle) return;
    this.#takeOffers(host);
    while (host.idle) {
      const ticket = host.turn(this.#time.nowMs);
      if (!ticket) return;
      const queue = this.#queues.get(ticket.version.tag) as Queue;
      if (host.loaded.has(queue.model.name)) this.#claim(host, queue, ticket);
      else this.#load(host, queue);
    }
  }

  #takeOffers(host: SimulatedHost): void {
    for (const model of host.spec.models) {
      const queue = this.#queues.get(model) as Queue;
      while (queue.offers.length > 0 && !host.holds(model)) {
        const ticketId = queue.offers.shift() as string;
        if (queue.store.take(ticketId, host.incarnation, this.#nowMs()) !== "held") continue;
        host.takes(model, ticketId);
      }
    }
  }

  #load(host: SimulatedHost, queue: Queue): void {
    const { incarnation } = host;
    host.running = true;
    this.#time.after(queue.model.loadMs, () => {
      if (host.incarnation !== incarnation || !host.alive) return;
      host.loaded.add(queue.model.name);
      host.running = false;
      this.#next(host);
    });
  }

  #claim(host: SimulatedHost, queue: Queue, ticket: HeldTicket): void {
    const { model, store } = queue;
    const { ticketId } = ticket;
    const history = queue.histories.get(host.spec.kind) as RunHistory;
    const nowMs = this.#nowMs();
    const ladder = this.#setup.policy.drop ? history.ladder(nowMs) : undefined;
    const sequence = (host.sequences.get(model.name) ?? 0) + 1;
    const answer = store.claim(
      {
        ...{ incarnation: host.incarnation, sequence, ticketId, hostId: host.spec.id, maxItems: model.maxItems, lingerMs: 0 },
        ...{ ladders: ladder ? new Map([[0, ladder]]) : new Map(), overheadMs: history.overheadMs, delayMs: model.delayMs },
        busyMs: 10_000,
        isAhead: false,
      },
      nowMs,
    );
    if (answer.kind === "batch") {
      host.sequences.set(model.name, sequence);
      this.#run(host, queue, ticketId, answer.jobs);
    } else if (answer.kind === "defer") {
      host.rotation.defer(ticket, answer.untilMs);
      this.#time.at(answer.untilMs, () => this.#next(host));
    } else host.rotation.end(ticketId);
  }

  #run(host: SimulatedHost, queue: Queue, ticketId: string, jobs: readonly ClaimedJob[]): void {
    const { model } = queue;
    const { incarnation, spec } = host;
    const items = jobs.reduce((sum, job) => sum + job.items, 0);
    const fails = this.#random.next() < (this.#setup.failures ?? 0);
    const runMs = drawRunMs(model, spec, items, this.#random);
    const beside = besideRunMs * (0.5 + this.#random.next());
    const cameMs = Math.min(...jobs.map(({ id }) => (this.#log.arrivals[indexOf(id)] as Arrival).atMs));
    for (const { id } of jobs) this.#started(indexOf(id));
    host.running = true;
    this.#time.after(beside + runMs, () => {
      this.#spent(jobs, runMs, items);
      if (host.incarnation !== incarnation || !host.alive) return;
      host.running = false;
      host.ran(model.name, runMs);
      const endMs = this.#time.nowMs;
      const others = host.times.ran(
        { tag: model.name, model: model.name },
        { beganMs: endMs - runMs, endMs, waitedMs: endMs - runMs - cameMs, isInOrder: true },
      );
      queue.histories.get(spec.kind)?.ranFor({ atMs: endMs, runs: 1, ownMs: runMs, ...others, host: this.#hosts.indexOf(host) });
      this.#commit(host, queue, { ticketId, jobs, runMs, fails });
      if (!fails && host.warmed.has(model.name)) {
        queue.histories.get(spec.kind)?.add({ items, runMs, atMs: this.#time.nowMs, overheadMs: beside });
      }
      host.warmed.add(model.name);
      this.#next(host);
    });
  }

  #commit(
    host: SimulatedHost,
    { store }: Queue,
    run: { ticketId: string; jobs: readonly ClaimedJob[]; runMs: number; fails: boolean },
  ): void {
    const error = { code: "run_failed", detail: "simulated", retryable: true };
    const done = run.jobs.map(({ id, fence, items }): RunOutcome => {
      if (run.fails) return { id, fence, outcome: "retry", error, retryDelayMs: 5 };
      store.outputs.set(`${id}:${fence}`, { bytes: nothing, goneMs: items });
      return { id, fence, outcome: "succeeded" };
    });
    store.commit(host.incarnation, run.ticketId, { runMs: run.runMs, batchItems: run.jobs.length, outcomes: done }, this.#nowMs());
    store.outputs.clear();
  }

  #started(at: number): void {
    const { atMs, timeoutMs } = this.#log.arrivals[at] as Arrival;
    if (Number.isNaN(this.#log.startedMs[at])) this.#log.startedMs[at] = this.#time.nowMs;
    if (this.#nowMs() > Math.floor(atMs) + timeoutMs) this.#log.lateStarts++;
  }

  #spent(jobs: readonly ClaimedJob[], runMs: number, items: number): void {
    this.#log.runs++;
    this.#log.runItems += items;
    this.#log.largestRunMs = Math.max(this.#log.largestRunMs, runMs);
    for (const job of jobs) {
      const at = indexOf(job.id);
      this.#log.deviceMs[at] = (this.#log.deviceMs[at] ?? 0) + (runMs * job.items) / items;
    }
  }

  // ---- what comes of it

  #ended(queue: Queue, { record }: MemoryJob): void {
    const at = indexOf(record.id);
    const { atMs, timeoutMs } = this.#log.arrivals[at] as Arrival;
    // the store's clock counts whole milliseconds
    const inTime = this.#nowMs() <= Math.floor(atMs) + timeoutMs;
    const names: Partial<Record<JobState, "expired" | "failed">> = { expired: "expired", failed: "failed" };
    this.#log.end(at, names[record.state] ?? (inTime ? "in_time" : "late"), this.#time.nowMs);
    queue.store.jobs.delete(record.id);
  }

  #sweepAll(): void {
    const nowMs = this.#nowMs();
    for (const queue of this.#queues.values()) {
      if (queue.store.jobs.size === 0) continue;
      for (const id of queue.store.jobs.keys()) queue.store.expire(id, nowMs);
      queue.store.promote(nowMs);
      this.#issue(queue, true);
    }
    this.#time.after(sweepMs, () => this.#sweepAll());
  }

  #planDeath(host: SimulatedHost): void {
    const { diesMs, returnsMs, models } = host.spec;
    if (diesMs === undefined) return;
    this.#time.at(diesMs, () => {
      const { incarnation } = host;
      host.die();
      for (const model of models) (this.#queues.get(model) as Queue).alive--;
      this.#time.after(silentMs, () => {
        for (const model of models) {
          const queue = this.#queues.get(model) as Queue;
          queue.store.takeBack(incarnation, this.#nowMs());
          this.#issue(queue, true);
        }
      });
    });
    if (returnsMs === undefined) return;
    this.#time.at(returnsMs, () => {
      host.restart();
      for (const model of models) (this.#queues.get(model) as Queue).alive++;
      this.#next(host);
    });
  }
}

const nothing = new Uint8Array();

function indexOf(id: string): number {
  return Number(id.slice(id.lastIndexOf("-") + 1));
}
