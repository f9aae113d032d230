/**
 * What this coordinator expects of each queue: run times from the history, hosts from the registry, what waits from the store's last answers.
 * Owns the gathering; the decisions are the scheduler's. Nothing here is truth: the store counts again when it admits.
 */

import {
  backlogItemMs,
  blobThresholdBytes,
  type DeviceRuns,
  type DeviceSharing,
  estimateRuns,
  halved,
  noOverhead,
  type Overhead,
  overheadMs,
  type RunEstimate,
  runMs,
  SwitchyardError,
  sharingOf,
  sizeOf,
  withOverhead,
} from "@switchyard/protocol";
import { tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { HostDirectory } from "../ports/host-registry.ts";
import type { Admitted, JobNotice, JobStore, NewJob } from "../ports/job-store.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { RunHistory } from "../ports/run-history.ts";
import {
  type Admission,
  type Asked,
  admission,
  type Bound,
  budgetMs,
  type HostPool,
  prediction,
  type QueueView,
} from "../scheduler/admission.ts";

/** Queues that nobody asked for in this time are not kept current. */
const forgetAfterMs = 60_000;
/** For so long a refusal by the store stands for the next jobs of the same flow that wish no more, and look about as far ahead. */
const refusalStandsMs = 10;
/** How long a view of a queue is used again. */
const viewMs = 20;
/** So often at most a job is let through that would be refused for the way to the store, and for so small a share of a host's time. */
const probeEveryMs = 100;
const probeShare = 0.05;
const mostProbes = 100;
const usualBatchItems = 8;
const leastLoadMs = 1_000;
/** What a run of a full batch takes at most where a host gains nothing by waiting for one. */
const lightRunMs = 2;
/** A queue that is full is asked again after this time. */
const fullRetryMs = 1_000;
const mostFlows = 10_000;
const sizeWeight = 0.05;
const unbounded: Bound = { mostAhead: Number.POSITIVE_INFINITY, withinMs: 0 };

interface Parts {
  history: RunHistory;
  hosts: Pick<HostDirectory, "matching" | "devices" | "isWarm">;
  models: ModelRegistry;
  store: Pick<JobStore, "nowMs">;
  clock: Pick<Clock, "monotonicMs">;
  mostQueueJobs: number;
  mostQueueBytes: number;
}

type Accepted = Extract<Admitted, { answer: "admitted" | "existing" }>;

/** How a queue looks for jobs of one size class, for a moment, and what follows. */
interface Outlook {
  untilMs: number;
  view: QueueView;
  /** As it looks to jobs whose callers ask for the outcome later: the way back is nothing to them. */
  wayless: QueueView;
  isLight: boolean;
  /** Predicted runs by items. */
  costs: Map<number, number>;
  /** By items, timeout and whether the caller waits. */
  decisions: Map<string, Admission>;
}

interface Queue {
  /** By size class; for a moment. */
  views: Map<number, Outlook>;
  askedMs: number;
  /** Nothing while the history was not read. */
  devices: Map<string, DeviceRuns> | undefined;
  /** By size class and device, made when first asked for. */
  estimates: Map<string, RunEstimate | undefined>;
  /** Jobs that this coordinator admitted and that have not ended. */
  open: number;
  /** Mean bytes of the inputs. */
  inputBytes: number;
  /** When a job may ask for the model's load again. */
  loadDueMs: number;
  /** When a job may be let through again that would be refused for the way to the store. */
  probeDueMs: number;
}

/** One rung of what `/v1/models/{model}/estimates` shows. */
export interface DeviceEstimate extends RunEstimate {
  device: string;
  size: number;
  samples: number;
  loadMs: number | undefined;
  overheadMs: number | undefined;
  /** Of their hosts' time. */
  sharing: DeviceSharing;
}

export class Forecasts {
  readonly #parts: Parts;
  readonly #queues = new Map<string, Queue>();
  readonly #refusals = new Map<string, { atMs: number; ahead: number; withinMs: number }>();
  /** What passes between this coordinator and the store beside a job's life in the store. */
  #network: Overhead = noOverhead;
  /** The last jobs that were let through although they would be refused for it, and when another may be. */
  readonly #probes = new Set<string>();
  #probeDueMs = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  #of(tag: string): Queue {
    let queue = this.#queues.get(tag);
    if (!queue) {
      queue = {
        views: new Map(),
        askedMs: 0,
        devices: undefined,
        estimates: new Map(),
        open: 0,
        inputBytes: 0,
        loadDueMs: 0,
        probeDueMs: 0,
      };
      this.#queues.set(tag, queue);
      void this.#read([tag]).catch(() => {}); // the loop reads it again
    }
    queue.askedMs = this.#parts.clock.monotonicMs();
    return queue;
  }

  /** One round of the loop, once a second: the queues that jobs came for lately. */
  async refresh(): Promise<void> {
    const nowMs = this.#parts.clock.monotonicMs();
    for (const [tag, queue] of this.#queues) if (queue.open <= 0 && nowMs - queue.askedMs > forgetAfterMs) this.#queues.delete(tag);
    await this.#read([...this.#queues.keys()]);
  }

  async #read(tags: readonly string[]): Promise<void> {
    const found = await this.#parts.history.read(tags);
    for (const tag of tags) {
      const queue = this.#queues.get(tag);
      if (!queue) continue;
      queue.devices = found.get(tag) ?? new Map();
      queue.estimates.clear();
      queue.views.clear();
    }
  }

  #maxItems(tag: string): number {
    const status = this.#parts.models.byTag(tag);
    return status?.batching?.maxItems ?? status?.version.config.max_batch_items ?? usualBatchItems;
  }

  #estimate(tag: string, queue: Queue, device: string, size: number): RunEstimate | undefined {
    const key = `${size} ${device}`;
    if (queue.estimates.has(key)) return queue.estimates.get(key);
    const runs = queue.devices?.get(device);
    const estimate = runs && estimateRuns(runs.windows.get(size) ?? [], runs.warmUp, this.#maxItems(tag));
    queue.estimates.set(key, estimate);
    return estimate;
  }

  #sharing(queue: Queue, device: string): DeviceSharing {
    return sharingOf(queue.devices?.get(device)?.times ?? [], this.#parts.store.nowMs());
  }

  /** Jobs that come together are judged by one view; what was decided for one stands for the others that ask the same. */
  #outlook(tag: string, size: number): Outlook {
    const queue = this.#of(tag);
    const kept = queue.views.get(size);
    if (kept && queue.askedMs < kept.untilMs && kept.view.busy === queue.open > 0) return kept;
    const view = this.#newView(tag, queue, size);
    const wayless = { ...view, overheadMs: view.overheadMs - this.networkMs() };
    const { maxItems, pools } = view;
    const isLight = pools.length > 0 && pools.every(({ estimate }) => estimate && maxItems * estimate.itemMs <= lightRunMs);
    const outlook = { untilMs: queue.askedMs + viewMs, view, wayless, isLight, costs: new Map(), decisions: new Map() };
    queue.views.set(size, outlook);
    return outlook;
  }

  #viewOf({ callerWaits, id, size }: NewJob): QueueView {
    const { view, wayless } = this.#outlook(tagOf(id), size);
    return callerWaits ? view : wayless;
  }

  #newView(tag: string, queue: Queue, size: number): QueueView {
    const { hosts } = this.#parts;
    const [pools, loads, overheads]: [HostPool[], number[], number[]] = [[], [], []];
    for (const { device, count } of hosts.devices(tag)) {
      const runs = queue.devices?.get(device);
      pools.push({ hosts: count, estimate: this.#estimate(tag, queue, device, size), sharing: this.#sharing(queue, device) });
      if (runs?.loadMs !== undefined) loads.push(runs.loadMs);
      if (runs?.overheadMs !== undefined) overheads.push(runs.overheadMs);
    }
    return {
      capableHosts: Math.max(1, hosts.matching(tag)),
      pools,
      busy: queue.open > 0,
      overheadMs: Math.max(0, ...overheads) + this.networkMs(),
      loadMs: hosts.isWarm(tag) || loads.length === 0 ? 0 : Math.min(...loads),
      maxItems: this.#maxItems(tag),
    };
  }

  /** Predicted run of a job alone on the fastest of its hosts; 0 while nothing is known. */
  costMs(tag: string, job: { size: number; items: number }): number {
    const { costs, view } = this.#outlook(tag, job.size);
    let costMs = costs.get(job.items);
    if (costMs === undefined) {
      const known = view.pools.flatMap(({ estimate }) => (estimate ? [runMs(estimate.ladder, job.items)] : []));
      costMs = known.length === 0 ? 0 : Math.min(...known);
      costs.set(job.items, costMs);
    }
    return costMs;
  }

  /** Whether a full batch takes any of its hosts next to nothing; false while nothing is known. */
  isLight(tag: string, size: number): boolean {
    return this.#outlook(tag, size).isLight;
  }

  /** When the last of so many jobs that came now would be done; undefined while nothing is known of their run time. */
  doneInMs(tag: string, { items, jobs, size }: { size: number; items: number; jobs: number }): number | undefined {
    const runMs = this.costMs(tag, { size, items });
    if (runMs === 0) return undefined;
    const { view } = this.#outlook(tag, size);
    const ahead = this.#of(tag).open + (jobs - 1) * items;
    return view.overheadMs + view.loadMs + (this.waitMs(tag, ahead) ?? 0) + runMs;
  }

  /** Throws what `bound` would throw of a job whose caller waits, and changes nothing. Who may ask for a load, or be let through to find out, is left to that. */
  requireTime(tag: string, job: Asked & { size: number; spentMs: number }): void {
    const outlook = this.#outlook(tag, job.size);
    if (job.spentMs && budgetMs(job.timeoutMs) <= 0) throw refusalAhead(job, outlook.view, 0);
    const decision = this.#decision(job, true, outlook);
    if (decision.kind === "admit") return;
    const mayFindOut = outlook.view.loadMs > 0 || this.#probe(this.#of(tag), job, outlook);
    if (!mayFindOut) throw refusal(decision, job);
  }

  /** What may be ahead of the job. Throws `deadline_unattainable` where that is not even nothing. */
  bound(job: NewJob): Bound {
    const { decisions } = this.#outlook(tagOf(job.id), job.size);
    const view = this.#viewOf(job);
    if (job.spentMs && budgetMs(job.timeoutMs) <= 0) throw refusalAhead(job, view, 0);
    const decision = this.#decision(job, job.callerWaits, { decisions, view });
    if (decision.kind === "refuse") {
      if (this.#asksForLoad(job, view)) return unbounded;
      const probed = this.#probed(job);
      if (probed) return probed;
      throw refusal(decision, job);
    }
    if (this.#refusals.size === 0) return decision;
    const refused = this.#refusals.get(flowKey(job));
    const stands = refused && this.#parts.clock.monotonicMs() - refused.atMs < refusalStandsMs;
    // a longer look ahead expects others by a longer look back
    const isAlike = refused && decision.withinMs <= refused.withinMs && decision.withinMs >= refused.withinMs / 2;
    if (stands && isAlike && refused.ahead > decision.mostAhead) throw refusalAhead(job, view, refused.ahead);
    return decision;
  }

  /** `view`: the outlook's own for callers who wait, else the one without the way. */
  #decision(job: Asked, callerWaits: boolean, { decisions, view }: Pick<Outlook, "decisions" | "view">): Admission {
    const asked = `${job.items} ${job.timeoutMs} ${callerWaits}`;
    let decision = decisions.get(asked);
    if (!decision) {
      decision = admission(job, view, this.#parts.store.nowMs());
      decisions.set(asked, decision);
    }
    return decision;
  }

  /**
   * Whether this job, which only the load of its model makes late, is let through all the same: nobody loads a model that nobody waits for, and
   * those who come after it may then have time enough. One in each time that a load takes.
   */
  #asksForLoad(job: NewJob, view: QueueView): boolean {
    if (view.loadMs === 0 || admission(job, { ...view, loadMs: 0 }, this.#parts.store.nowMs()).kind === "refuse") return false;
    const queue = this.#of(tagOf(job.id));
    if (queue.askedMs < queue.loadDueMs) return false;
    queue.loadDueMs = queue.askedMs + Math.max(view.loadMs, leastLoadMs);
    return true;
  }

  /** Most jobs that may wait in the queue, by number and by the bytes that they would hold. */
  mostWaiting(tag: string): number {
    const { mostQueueBytes, mostQueueJobs } = this.#parts;
    const { inputBytes } = this.#of(tag);
    return inputBytes === 0 ? mostQueueJobs : Math.max(1, Math.min(mostQueueJobs, Math.floor(mostQueueBytes / inputBytes)));
  }

  /** The store has answered: the job that is there now. Throws the refusal, if it is one. */
  answered(job: NewJob, answer: Admitted): Accepted {
    const tag = tagOf(job.id);
    if (answer.answer === "refused") {
      if (this.#refusals.size >= mostFlows) this.#refusals.clear();
      this.#refusals.set(flowKey(job), { atMs: this.#parts.clock.monotonicMs(), ahead: answer.ahead, withinMs: job.withinMs ?? 0 });
      throw refusalAhead(job, this.#viewOf(job), answer.ahead);
    }
    if (answer.answer === "full") {
      throw new SwitchyardError("queue_full", `${answer.waiting} jobs wait for ${job.model}, as many as may; try again later`, {
        retryAfterMs: fullRetryMs,
      });
    }
    if (answer.answer !== "admitted") return answer;
    const queue = this.#of(tag);
    queue.open += 1;
    queue.inputBytes += (queue.inputBytes === 0 ? 1 : sizeWeight) * (Math.min(sizeOf(job.inputs), blobThresholdBytes) - queue.inputBytes);
    return answer;
  }

  /** A job has come to wait that was not admitted here: it follows an equal one. */
  opened(tag: string): void {
    this.#of(tag).open += 1;
  }

  /** A job has ended. Only one of the coordinators that hear of it counts it: the first that waited, which is the one that admitted it. */
  ended({ id, counts }: Pick<JobNotice, "id" | "counts">): void {
    const queue = counts ? this.#queues.get(tagOf(id)) : undefined;
    if (queue && queue.open > 0) queue.open -= 1;
  }

  /** The queue has no open job: whatever was counted here, its notices were lost. */
  idle(tag: string): void {
    const queue = this.#queues.get(tag);
    if (queue) queue.open = 0;
  }

  /** A job whose caller waits took so long here, and so long from admission to outcome by the store's clock. */
  networkTook(id: string, hereMs: number, inStoreMs: number): void {
    const tookMs = Math.max(0, hereMs - inStoreMs);
    const isShorter = this.#probes.delete(id) && tookMs < this.networkMs() / 2;
    this.#network = withOverhead(isShorter ? halved(this.#network) : this.#network, tookMs);
  }

  networkMs(): number {
    return overheadMs(this.#network);
  }

  /**
   * What may be ahead of a job that only the way to the store makes late, and that is let through all the same, one now and then: no
   * job would ever show that the way has become shorter. Until one has, what is promised stands.
   */
  #probed(job: NewJob): Bound | undefined {
    const nowMs = this.#parts.clock.monotonicMs();
    const queue = this.#of(tagOf(job.id));
    const decision = this.#probe(queue, job, this.#outlook(tagOf(job.id), job.size));
    if (!decision) return undefined;
    this.#probeDueMs = nowMs + probeEveryMs;
    queue.probeDueMs = nowMs + decision.costMs / probeShare;
    this.#probes.add(job.id);
    const [oldest] = this.#probes;
    if (this.#probes.size > mostProbes) this.#probes.delete(oldest!); // it was cancelled or lost
    return decision;
  }

  /** On what a job would be let through that only the way to the store makes late, where one is due. */
  #probe({ probeDueMs }: Queue, job: Asked, { decisions, wayless }: Outlook): Extract<Admission, { kind: "admit" }> | undefined {
    const nowMs = this.#parts.clock.monotonicMs();
    if (nowMs < this.#probeDueMs || nowMs < probeDueMs) return undefined;
    const decision = this.#decision(job, false, { decisions, view: wayless });
    return decision.kind === "admit" ? decision : undefined;
  }

  /** Until so many jobs have run on the hosts that there are, by their mean; null where nothing is known here, or no host may run them. */
  waitMs(tag: string, waiting: number): number | null {
    if (waiting === 0) return 0;
    const queue = this.#queues.get(tag);
    if (!queue?.devices) return null;
    let itemsPerMs = 0;
    for (const { device, count } of this.#parts.hosts.devices(tag)) {
      const [size = 0] = queue.devices.get(device)?.windows.keys() ?? [];
      const estimate = this.#estimate(tag, queue, device, size);
      if (estimate && estimate.itemMs > 0)
        itemsPerMs += count / backlogItemMs(estimate.itemMs, this.#maxItems(tag), this.#sharing(queue, device));
    }
    return itemsPerMs === 0 ? null : Math.round(waiting / itemsPerMs);
  }

  /** All that is known of a queue's run times. */
  async estimates(tag: string): Promise<DeviceEstimate[]> {
    const queue = this.#of(tag);
    await this.#read([tag]);
    const shown: DeviceEstimate[] = [];
    for (const [device, { windows, warmUp, loadMs, overheadMs: beside }] of queue.devices ?? []) {
      const sharing = this.#sharing(queue, device);
      const sizes = windows.size > 0 ? [...windows.keys()] : warmUp.length > 0 ? [0] : [];
      for (const size of sizes.sort((a, b) => a - b)) {
        const estimate = this.#estimate(tag, queue, device, size);
        const samples = (windows.get(size) ?? []).reduce((sum, { runs }) => sum + runs.length, 0);
        if (estimate) shown.push({ device, size, samples, loadMs, overheadMs: beside, sharing, ...estimate });
      }
    }
    return shown;
  }
}

function flowKey(job: NewJob): string {
  return `${tagOf(job.id)} ${job.class} ${job.tenant}`;
}

function refusalAhead(job: Asked & { spentMs?: number }, view: QueueView, ahead: number): SwitchyardError {
  return refusal({ kind: "refuse", code: "deadline_unattainable", ...prediction(job, view, ahead) }, job);
}

function refusal(decision: Extract<Admission, { kind: "refuse" }>, job: Asked & { spentMs?: number }): SwitchyardError {
  if (decision.code === "no_capable_host") {
    return new SwitchyardError("no_capable_host", "no registered host can run this model", { extra: { missing: decision.unmet } });
  }
  const { estimatedMs } = decision;
  const { spentMs = 0, timeoutMs } = job;
  const marginMs = Math.min(timeoutMs, Math.ceil(timeoutMs - budgetMs(timeoutMs)));
  const retryAfterMs = Math.max(decision.retryAfterMs, spentMs); // a coordinator that is behind by so much will not have caught up sooner
  const spent = spentMs > 0 ? ` of ${timeoutMs + spentMs}, because this coordinator is behind` : "";
  return new SwitchyardError(
    "deadline_unattainable",
    `the job would be done in about ${estimatedMs} ms, and has ${timeoutMs} ms${spent}, of which ${marginMs} are kept as a margin: give it more time, or try again in ${retryAfterMs} ms`,
    { estimatedMs, retryAfterMs },
  );
}
