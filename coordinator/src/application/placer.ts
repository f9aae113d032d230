/**
 * The placement loop: once a second the coordinator that holds the lease looks at hosts and models, plans, and leaves orders for the hosts,
 * which follow them with their beats. What it remembers (demand, how long what was held, who failed) another builds up again in a minute.
 */

import { estimatedModelBytes, type ModelVersion, preferenceOf } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { HostDirectory, HostSnapshot } from "../ports/host-registry.ts";
import type { Log } from "../ports/log.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { PlacementBoard } from "../ports/placement-board.ts";
import { nextDemand, type Totals } from "../scheduler/demand.ts";
import { type Demand, type HostPlan, type PlacedModel, type PlacementHost, planPlacement } from "../scheduler/placement.ts";

const megabyte = 1024 * 1024;
/** Until a load was seen: reading the file, building the session, warming it up. */
const guessedLoadMs = (sizeBytes: number): number => 200 + sizeBytes / 20_000;
/** A host that could not load a model is not asked again for 30 s, then twice as long each time, up to ten minutes. */
const failedMs = { first: 30_000, longest: 600_000 };

interface Parts {
  hosts: HostDirectory;
  models: ModelRegistry;
  board: PlacementBoard;
  /** Which of these queues have jobs without an outcome. */
  openQueues: (tags: readonly string[]) => Promise<readonly string[]>;
  clock: Clock;
  log: Log;
  /** Told once a second whether this coordinator leads, while the store answers. */
  onLead?: (leads: boolean) => void;
}

interface Failure {
  untilMs: number;
  times: number;
}

export class Placer {
  readonly #parts: Parts;
  #demand = new Map<string, Demand>();
  #totals: Totals = new Map();
  #lookedMs = 0;
  #leads = false;
  /** Since when a host has held a model, by `<incarnation> <tag>`. */
  #heldSince = new Map<string, number>();
  readonly #failures = new Map<string, Failure>();
  /** Tags that somebody asked to be loaded: each is on a host at least, and what failed before that is tried again. */
  #wanted: ReadonlySet<string> = new Set();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** One round of the loop. Measures in any case, so that whoever leads next knows what is used. */
  async round(): Promise<void> {
    const { board, hosts, models } = this.#parts;
    const nowMs = this.#parts.clock.monotonicMs();
    const ready = hosts.snapshots().filter((host) => host.view.state === "ready");
    this.#measure(ready, nowMs);
    // who led a second ago leads still, nearly always: asked together
    const asked = this.#leads ? board.wanted() : undefined;
    asked?.catch(() => {}); // the lease tells of the store's trouble
    this.#leads = await board.lead();
    this.#parts.onLead?.(this.#leads);
    if (!this.#leads) return;
    const wanted = new Set([...(await (asked ?? board.wanted())), ...models.promised().map(({ tag }) => tag)]);
    for (const tag of wanted)
      if (!this.#wanted.has(tag)) for (const { incarnation } of ready) this.#failures.delete(`${incarnation} ${tag}`);
    this.#wanted = wanted;
    const plan = this.#plan(ready, nowMs);
    await this.#letGo(plan, ready);
    this.#tell(plan, ready);
    await board.publish(plan);
  }

  #measure(ready: readonly HostSnapshot[], nowMs: number): void {
    const now: Totals = new Map(ready.map((host) => [host.incarnation, host.usedMs]));
    this.#demand = nextDemand(this.#demand, { last: this.#totals, now, passedMs: this.#lookedMs === 0 ? 0 : nowMs - this.#lookedMs });
    this.#totals = now;
    this.#lookedMs = nowMs;
    const held = new Map<string, number>();
    for (const host of ready) {
      for (const tag of Object.keys(host.loaded)) {
        const key = `${host.incarnation} ${tag}`;
        held.set(key, this.#heldSince.get(key) ?? nowMs);
        this.#failures.delete(key);
      }
      for (const tag of Object.keys(host.failures)) this.#noteFailure(`${host.incarnation} ${tag}`, nowMs);
    }
    this.#heldSince = held;
  }

  #noteFailure(key: string, nowMs: number): void {
    const before = this.#failures.get(key);
    if (before && nowMs < before.untilMs) return;
    const times = (before?.times ?? 0) + 1;
    if (this.#failures.size > 10_000) this.#failures.clear();
    this.#failures.set(key, { times, untilMs: nowMs + Math.min(failedMs.longest, failedMs.first * 2 ** (times - 1)) });
  }

  #plan(ready: readonly HostSnapshot[], nowMs: number): Map<string, HostPlan> {
    const { hosts, models } = this.#parts;
    const byId = new Map(ready.map((host) => [host.incarnation, host]));
    const able = new Map<string, ReadonlySet<string>>();
    const isAble = (tag: string, incarnation: string): boolean => {
      let found = able.get(tag);
      if (!found) {
        found = new Set(hosts.able(tag).map((host) => host.incarnation));
        able.set(tag, found);
      }
      return found.has(incarnation);
    };
    const held = new Set(ready.flatMap((host) => Object.keys(host.loaded)));
    const versions = [...models.published()].filter((version) => this.#matters(version, held));
    // a queue of jobs with requirements of their own shares its model's memory: it is no model to be let go
    const planned = new Set([...models.published()].map(({ tag }) => tag));
    return planPlacement({
      models: versions.map((version) => this.#model(version, ready)),
      hosts: ready.map((host) => this.#host(host, nowMs, planned)),
      score: ({ tag }, { id }) => {
        const failure = this.#failures.get(`${id} ${tag}`);
        if (!isAble(tag, id) || (failure && nowMs < failure.untilMs)) return undefined;
        return preferenceOf(byId.get(id)!.facts, models.versionOf(tag)?.config.prefer);
      },
      memoryMbOf: (tag) => memoryMb(models.versionOf(tag)),
    });
  }

  /** Models that were unloaded go from every host, queue by queue, as soon as nobody waits there. */
  async #letGo(plan: Map<string, HostPlan>, ready: readonly HostSnapshot[]): Promise<void> {
    const { models, openQueues } = this.#parts;
    const isUnloaded = (tag: string): boolean => models.versionOf(tag)?.unloaded === true;
    const held = new Set(ready.flatMap(({ loaded }) => Object.keys(loaded).filter(isUnloaded)));
    if (held.size === 0) return;
    const open = new Set(await openQueues([...held]));
    for (const { incarnation, loaded } of ready) {
      const own = plan.get(incarnation);
      for (const tag of Object.keys(loaded)) if (own && held.has(tag) && !open.has(tag) && !own.drop.includes(tag)) own.drop.push(tag);
    }
  }

  /** With thousands of models most are of no interest: nobody asks for them, and nothing is promised of them. */
  #matters({ config, failure, tag, unloaded }: ModelVersion, held: ReadonlySet<string>): boolean {
    if (failure !== undefined || unloaded) return false;
    const isPromised = config.pin === true || (config.min_replicas ?? 0) > 0 || this.#wanted.has(tag);
    return isPromised || this.#demand.has(tag) || (config.max_replicas !== undefined && held.has(tag));
  }

  #model(version: ModelVersion, ready: readonly HostSnapshot[]): PlacedModel {
    const { config, sizeBytes, tag } = version;
    const seen = ready.map((host) => host.loaded[tag]?.loadMs ?? 0);
    return {
      tag,
      memoryMb: memoryMb(version),
      loadMs: Math.max(...seen) > 0 ? Math.max(...seen) : guessedLoadMs(sizeBytes),
      demand: this.#demand.get(tag) ?? { over10sMs: 0, over60sMs: 0 },
      pin: config.pin ?? false,
      minReplicas: Math.max(config.min_replicas ?? 0, this.#wanted.has(tag) ? 1 : 0),
      maxReplicas: config.max_replicas ?? Number.POSITIVE_INFINITY,
    };
  }

  #host({ facts, incarnation, loaded }: HostSnapshot, nowMs: number, planned: ReadonlySet<string>): PlacementHost {
    const tags = Object.keys(loaded).filter((tag) => planned.has(tag));
    const holds = tags.map((tag) => [tag, nowMs - (this.#heldSince.get(`${incarnation} ${tag}`) ?? nowMs)] as const);
    return { id: incarnation, memoryMb: facts.modelMemoryMb, mostModels: facts.mostModels, holds: new Map(holds) };
  }

  #told = "";
  #tell(plan: ReadonlyMap<string, HostPlan>, ready: readonly HostSnapshot[]): void {
    const nameOf = (tag: string): string => {
      const version = this.#parts.models.versionOf(tag);
      return version ? `${version.model}@${version.version}` : tag;
    };
    const changes = ready.flatMap(({ incarnation, view }) => {
      const { drop, load } = plan.get(incarnation)!;
      return [...load.map((tag) => `load ${nameOf(tag)} on ${view.id}`), ...drop.map((tag) => `drop ${nameOf(tag)} from ${view.id}`)];
    });
    const text = changes.join("; ");
    if (text !== "" && text !== this.#told) this.#parts.log.info("placement", { changes: text });
    this.#told = text;
  }
}

function memoryMb(version: ModelVersion | undefined): number {
  return version ? estimatedModelBytes(version.sizeBytes) / megabyte : 0;
}
