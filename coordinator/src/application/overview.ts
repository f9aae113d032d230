/** What operators look at first: figures of the last minutes, queues, tenants, from what was counted; the same from every coordinator. */

import type { OverviewView, QueueView, TenantView } from "@switchyard/protocol";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobStore, WaitingFlow } from "../ports/job-store.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { Tenant } from "./access.ts";
import { tenantViews } from "./access.ts";
import { type Caller, mayUse } from "./caller.ts";
import { addSlot, countsOf, emptySlot, modelIn, quantiles, type Slot, sumOf, tenantIn } from "./figure-slots.ts";
import { type Figures, mostSlots, type NumberedSlot, slotMs, type VersionNow } from "./figures.ts";
import type { Forecasts } from "./forecasts.ts";
import type { JobService } from "./job-service.ts";

/** Slots of what views call recent: a minute. */
const recentSlots = 30;
/** So long what queues hold now is added up once for all who look. */
const sameNowMs = 500;

/** Of callers who may use the same models. */
interface Sums {
  recent: OverviewView["recent"];
  series: { number: number; point: OverviewView["series"][number] }[];
}
type Models = Caller["models"];

interface Parts {
  figures: Figures;
  forecasts: Pick<Forecasts, "waitMs">;
  hosts: HostRegistry;
  jobs: Pick<JobService, "waiting">;
  models: ModelRegistry;
  store: Pick<JobStore, "nowMs" | "waiting">;
}

export class Overview {
  readonly #parts: Parts;
  /** By the slots that they are made of. */
  readonly #sums = new WeakMap<readonly NumberedSlot[], Map<Models, Sums>>();
  readonly #merged = new WeakMap<readonly NumberedSlot[], Slot>();
  #now: { atMs: number; queues: readonly VersionNow[]; byModels: Map<Models, OverviewView["now"]> } | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Of the models that the caller may use. `afterSlot`: the series begins behind that one. Throws `store_unavailable`. */
  async view(caller: Caller, afterSlot = 0): Promise<{ view: OverviewView; lastSlot: number }> {
    const { figures, hosts, store } = this.#parts;
    const slots = await figures.slots(mostSlots);
    const { recent, series } = this.#sumsOf(slots, caller);
    const view: OverviewView = {
      at: new Date(store.nowMs()).toISOString(),
      window_s: (recentSlots * slotMs) / 1_000,
      slot_s: slotMs / 1_000,
      now: { ...this.#nowOf(caller) },
      recent,
      series: series.filter(({ number }) => number > afterSlot).map(({ point }) => point),
    };
    if (caller.scopes.has("operate")) {
      view.now.hosts = { ready: 0, draining: 0, lost: 0 };
      for (const { state } of hosts.list()) view.now.hosts[state] = (view.now.hosts[state] ?? 0) + 1;
    }
    return { view, lastSlot: slots.at(-1)?.number ?? afterSlot };
  }

  #sumsOf(slots: readonly NumberedSlot[], caller: Caller): Sums {
    const known = this.#sums.get(slots) ?? new Map<Models, Sums>();
    this.#sums.set(slots, known);
    let sums = known.get(caller.models);
    if (!sums) {
      const may = (model: string): boolean => mayUse(caller, model);
      const recent = sumOf(merged(slots.slice(-recentSlots)), may);
      sums = {
        recent: {
          ...countsOf(recent),
          refusals: recent.refused as Record<string, number>,
          total_ms: quantiles(recent.total),
          queue_ms: quantiles(recent.queue),
        },
        series: slots.map(({ number, slot }) => {
          const sum = sumOf(slot, may);
          const at = new Date((number + 1) * slotMs).toISOString();
          return { number, point: { at, ...countsOf(sum), total_ms: quantiles(sum.total) } };
        }),
      };
      known.set(caller.models, sums);
    }
    return sums;
  }

  #nowOf(caller: Caller): OverviewView["now"] {
    const { figures, store } = this.#parts;
    const nowMs = store.nowMs();
    if (this.#now === undefined || Math.abs(nowMs - this.#now.atMs) >= sameNowMs) {
      this.#now = { atMs: nowMs, queues: figures.queues(), byModels: new Map() };
    }
    const { byModels, queues } = this.#now;
    let now = byModels.get(caller.models);
    if (!now) {
      now = { queued: 0, running: 0, oldest_ms: 0, dead_letters: 0 };
      for (const { model, now: of } of queues) {
        if (!mayUse(caller, model)) continue;
        now.queued += of.waiting;
        now.running += of.running;
        now.oldest_ms = Math.max(now.oldest_ms, Math.round(1_000 * of.oldestSeconds));
        now.dead_letters += of.dead;
      }
      byModels.set(caller.models, now);
    }
    return now;
  }

  /** The last minute, of all models. */
  async #recent(): Promise<Slot> {
    const slots = await this.#parts.figures.slots(recentSlots);
    const known = this.#merged.get(slots) ?? merged(slots);
    this.#merged.set(slots, known);
    return known;
  }

  /** One row for each version that has jobs now, had some lately, or keeps dead letters. Asks the store only for queues in which jobs wait. */
  async queues(caller: Caller): Promise<QueueView[]> {
    const { figures, forecasts, hosts, models } = this.#parts;
    const recent = await this.#recent();
    const now = new Map(figures.queues().map((queue) => [nameOf(queue), queue.now]));
    const flows = await this.#flows((name) => (now.get(name)?.waiting ?? 0) > 0);
    const rows: QueueView[] = [];
    for (const version of models.published()) {
      const { model, tag } = version;
      if (!mayUse(caller, model)) continue;
      const { waiting = 0, running = 0, oldestSeconds = 0, dead = 0 } = now.get(nameOf(version)) ?? {};
      const ofModel = modelIn(Object.hasOwn(recent.models, model) ? recent : emptySlot(), model);
      const counts = countsOf(ofModel);
      if ([waiting, running, dead, ...Object.values(counts)].every((count) => count === 0)) continue;
      rows.push({
        model,
        version: version.version,
        queued: waiting,
        running,
        oldest_ms: Math.round(1_000 * oldestSeconds),
        dead_letters: dead,
        hosts: hosts.matching(tag),
        drain_ms: forecasts.waitMs(tag, waiting),
        waiting: waitingViews(flows.get(nameOf(version)) ?? [], caller),
        recent: { ...counts, total_ms: quantiles(ofModel.total), queue_ms: quantiles(ofModel.queue) },
      });
    }
    return rows.sort((one, other) => other.queued + other.running - (one.queued + one.running));
  }

  /** What waits, by version; queues of jobs with requirements of their own are their version's too. */
  async #flows(isBusy: (name: string) => boolean): Promise<Map<string, WaitingFlow[]>> {
    const { models, store } = this.#parts;
    const names = new Map<string, string>();
    for (const tag of models.tags()) {
      const version = models.versionOf(tag);
      if (version && isBusy(nameOf(version))) names.set(tag, nameOf(version));
    }
    return Map.groupBy(await store.waiting([...names.keys()]), ({ tag }) => names.get(tag) ?? "");
  }

  /** Throws `store_unavailable`. */
  async tenants(tenants: readonly Tenant[]): Promise<TenantView[]> {
    const [waiting, recent] = await Promise.all([this.#parts.jobs.waiting(), this.#recent()]);
    const all = Object.values(recent.tenants).reduce((sum, { deviceMs }) => sum + deviceMs, 0);
    return tenantViews(tenants, waiting).map((view) => {
      const { jobs: ended, deviceMs, queue } = tenantIn(Object.hasOwn(recent.tenants, view.tenant) ? recent : emptySlot(), view.tenant);
      const share = all === 0 ? 0 : deviceMs / all;
      const device = { device_ms: Math.round(deviceMs), device_share: Number(share.toFixed(4)) };
      return { ...view, recent: { jobs: ended, ...device, queue_ms: quantiles(queue) } };
    });
  }
}

const nameOf = ({ model, version }: { model: string; version: number }): string => `${model}@${version}`;

function merged(slots: readonly { slot: Slot }[]): Slot {
  const sum = emptySlot();
  for (const { slot } of slots) addSlot(sum, slot);
  return sum;
}

function waitingViews(flows: readonly WaitingFlow[], caller: Caller): QueueView["waiting"] {
  if (caller.scopes.has("operate")) return flows.map(({ class: jobClass, jobs, tenant }) => ({ class: jobClass, tenant, jobs }));
  const byClass = Map.groupBy(flows, (flow) => flow.class);
  return [...byClass].map(([jobClass, list]) => ({ class: jobClass, jobs: list.reduce((sum, { jobs }) => sum + jobs, 0) }));
}
