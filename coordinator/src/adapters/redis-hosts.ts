/** The host registry on Redis: reads what heartbeats wrote, and decides losses (once, by the store's clock, in lua/lose.lua). */

import {
  type ChangingFacts,
  estimatedModelBytes,
  type HostFacts,
  type HostView,
  isChoosy,
  type ModelVersion,
  type SeenHost,
  shareTheirId,
} from "@switchyard/protocol";
import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import type { HostDirectory, HostSnapshot, TicketReach, TicketRoute } from "../ports/host-registry.ts";
import { chooseHosts, type HostChoice } from "./host-choice.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** A host whose last beat is older is lost. */
const presenceWindowMs = 3_000;
/** Lost hosts stay listed this long. */
const showLostMs = 60_000;
const forgetMs = 3_600_000;

/** What `askHost` asks for, in that order. */
type HostRow = (string | null)[];

const askHost = (incarnation: string): RedisCommand => [
  "hmget",
  keys.host(incarnation),
  ...["state", "beat", "registered", "facts", "changing", "claims", "lost"],
];

interface Parsed {
  factsText: string;
  changingText: string;
  facts: HostFacts;
  changing: ChangingFacts;
}

export class RedisHosts implements HostDirectory {
  readonly #redis: RedisConnection;
  readonly #parsed = new Map<string, Parsed>();
  #snapshots: HostSnapshot[] = [];
  #generation = 0;
  #warm = new Map<string, number>();
  #blobFolders: ReadonlySet<string | undefined> = new Set();
  #versionOf: (tag: string) => ModelVersion | undefined = () => undefined;
  /** Of queues to which it matters who takes their jobs; made anew with each look at the hosts. */
  readonly #choices = new Map<string, { version: ModelVersion; choice: HostChoice | undefined }>();
  #turn = 0;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  /** Reads all hosts; declares lost those that are silent. */
  async refresh(): Promise<void> {
    // those of the last look are asked with the list: nearly always they are all
    const asked = this.#snapshots.map(({ incarnation }) => incarnation);
    const [reply, ...answers] = await this.#redis.sendAll([["zrange", keys.hosts, 0, -1], ...asked.map(askHost)]);
    const incarnations = reply as string[];
    const found = new Map(asked.map((one, at) => [one, answers[at] as HostRow]));
    const others = incarnations.filter((one) => !found.has(one));
    for (const [at, row] of (await this.#rowsOf(others)).entries()) found.set(others[at]!, row);
    const nowMs = this.#redis.nowMs();
    const snapshots: HostSnapshot[] = [];
    const seen = new Map<HostSnapshot, SeenHost>();
    for (const incarnation of incarnations) {
      const row = found.get(incarnation)!;
      if (!row[0]) {
        await this.#redis.sendAll([["zrem", keys.hosts, incarnation]]);
        this.#parsed.delete(incarnation);
        continue;
      }
      const snapshot = this.#snapshot(incarnation, row, nowMs);
      if (snapshot.view.state !== "lost" && nowMs - Number(row[1]) > presenceWindowMs && this.#mayJudge()) await this.#lose(snapshot);
      if (snapshot.view.state === "lost" && nowMs - Number(row[6] ?? nowMs) > forgetMs)
        await this.#redis.sendAll([["zrem", keys.hosts, incarnation]]);
      snapshots.push(snapshot);
      const { state } = snapshot.view;
      seen.set(snapshot, {
        ...{ lives: state !== "lost", draining: state === "draining" },
        ...{ registeredMs: Number(row[2]), beatMs: Number(row[1]) },
      });
    }
    noteSharedIds(seen);
    const known = new Set(incarnations);
    for (const incarnation of this.#parsed.keys()) if (!known.has(incarnation)) this.#parsed.delete(incarnation);
    this.#snapshots = snapshots;
    this.#generation++;
    this.#choices.clear();
    this.#countWarm();
    this.#blobFolders = new Set(snapshots.flatMap(({ blobFolder, view }) => (view.state === "lost" ? [] : [blobFolder])));
  }

  async #rowsOf(incarnations: readonly string[]): Promise<HostRow[]> {
    return incarnations.length === 0 ? [] : ((await this.#redis.sendAll(incarnations.map(askHost))) as HostRow[]);
  }

  /**
   * After a frozen store every beat looks old: judge only after one whole presence window of answers. Where another server has taken the
   * place of one, hosts have to find it first, each by itself.
   */
  #mayJudge(): boolean {
    const { answering, sinceMs } = this.#redis.health();
    return answering && sinceMs > (this.#redis.form === "standalone" ? presenceWindowMs + 500 : 2 * presenceWindowMs);
  }

  async #lose(snapshot: HostSnapshot): Promise<void> {
    const answer = await this.#redis.run("lose", keys.host(snapshot.incarnation), [presenceWindowMs]);
    if (answer === "lost") snapshot.view.state = "lost";
  }

  #snapshot(incarnation: string, row: HostRow, nowMs: number): HostSnapshot {
    const factsText = row[3] ?? "{}";
    const changingText = row[4] ?? "{}";
    let parsed = this.#parsed.get(incarnation);
    if (parsed?.factsText !== factsText || parsed.changingText !== changingText) {
      parsed = { factsText, changingText, facts: factsIn(factsText), changing: changingIn(changingText) };
      this.#parsed.set(incarnation, parsed);
    }
    const { facts, changing } = parsed;
    const view: HostView = {
      id: facts.id,
      incarnation,
      state: row[0] === "lost" ? "lost" : changing.draining ? "draining" : "ready",
      device: facts.device,
      providers: [...facts.providers],
      gpus: facts.gpus.map(({ name, memoryMb }) => ({ name, memory_mb: memoryMb })),
      frameworks: [...facts.frameworks],
      cores: facts.cores,
      memory_mb: facts.memoryMb,
      labels: facts.labels,
      warm: [],
      metrics: facts.metrics,
      version: facts.version,
      heartbeat_age_ms: Math.max(0, nowMs - Number(row[1])),
      clock_offset_ms: changing.clockOffsetMs,
      ...(changing.tickets !== undefined && { tickets: changing.tickets }),
      registered_at: new Date(Number(row[2])).toISOString(),
    };
    return {
      incarnation,
      view,
      facts,
      subscribed: changing.warm,
      loaded: changing.loaded,
      usedMs: changing.usedMs,
      batches: changing.batches ?? {},
      blobFolder: changing.blobFolder,
      failures: changing.failures,
      claims: (row[5] ?? "").split(" ").filter((claim) => claim !== ""),
      lostMs: row[6] ? Number(row[6]) : undefined,
      // it was still beating: only the host itself may say then that it is over (lua/lose.lua), shortly before it takes itself off the list
      hasLeft: row[0] === "lost" && Number(row[6]) - Number(row[1]) <= presenceWindowMs,
    };
  }

  #countWarm(): void {
    this.#warm = new Map();
    for (const host of this.#ready()) {
      for (const tag of host.subscribed) this.#warm.set(tag, (this.#warm.get(tag) ?? 0) + 1);
    }
  }

  #ready(): HostSnapshot[] {
    return this.#snapshots.filter((host) => host.view.state === "ready");
  }

  /** How living hosts see their folders of large values; undefined is among them where one sees none. */
  blobFolders(): ReadonlySet<string | undefined> {
    return this.#blobFolders;
  }

  generation(): number {
    return this.#generation;
  }

  snapshots(): readonly HostSnapshot[] {
    return this.#snapshots;
  }

  list(): HostView[] {
    const nowMs = this.#redis.nowMs();
    const nameOf = (tag: string): string => {
      const version = this.#versionOf(tag);
      return version ? `${version.model}@${version.version}` : tag;
    };
    return this.#snapshots
      .filter((host) => host.lostMs === undefined || nowMs - host.lostMs < showLostMs)
      .map(({ batches, facts, failures, loaded, usedMs, view }) => ({
        ...view,
        warm: view.state === "lost" ? [] : [...new Set(Object.keys(loaded).map(nameOf))].sort(),
        model_memory_mb: { lent: facts.modelMemoryMb, used: Math.round(this.#usedMb(Object.keys(loaded))) },
        batches: Object.fromEntries(
          Object.entries(loaded).map(([tag, { maxItems }]) => {
            const [runs = 0, items = 0] = batches[tag] ?? [];
            return [nameOf(tag), { runs, items, max_items: maxItems, device_ms: usedMs[tag] ?? 0 }];
          }),
        ),
        ...(Object.keys(failures).length === 0
          ? {}
          : { failures: Object.fromEntries(Object.entries(failures).map(([tag, why]) => [nameOf(tag), why])) }),
      }));
  }

  /** Queues of one version share its model. */
  #usedMb(tags: readonly string[]): number {
    const versions = tags.flatMap((tag) => this.#versionOf(tag) ?? []);
    const bytes = new Map(versions.map(({ model, sizeBytes, version }) => [`${model}@${version}`, estimatedModelBytes(sizeBytes)]));
    return [...bytes.values()].reduce((sum, one) => sum + one, 0) / 1024 / 1024;
  }

  /** What is known of a queue: how it is shown, and what its jobs ask of hosts. */
  knowQueues(versionOf: (tag: string) => ModelVersion | undefined): void {
    this.#versionOf = versionOf;
  }

  /** Nothing for queues whose jobs any host may take. */
  #choice(tag: string): HostChoice | undefined {
    const version = this.#versionOf(tag);
    if (!version) return undefined;
    let made = this.#choices.get(tag);
    if (made?.version !== version) {
      made = { version, choice: isChoosy(version) ? chooseHosts(version, this.#ready()) : undefined };
      this.#choices.set(tag, made);
    }
    return made.choice;
  }

  warm(tag: string): number {
    const choice = this.#choice(tag);
    return choice ? warmOf(tag, choice.chosen).length : (this.#warm.get(tag) ?? 0);
  }

  capable(tag: string): number {
    const count = (this.#choice(tag)?.chosen ?? this.#ready()).filter((host) => host.failures[tag] === undefined).length;
    return Math.min(count, this.#versionOf(tag)?.config.max_replicas ?? count);
  }

  able(tag: string): readonly HostSnapshot[] {
    return this.#choice(tag)?.able ?? this.#ready();
  }

  spare(tag: string): readonly HostSnapshot[] {
    const choice = this.#choice(tag);
    if (!choice) return [];
    return choice.able.filter((host) => !choice.chosen.includes(host) && host.failures[tag] === undefined);
  }

  takers(tag: string): readonly string[] {
    const takers: string[] = [];
    for (const { failures, incarnation } of this.able(tag)) {
      if (failures[tag] === undefined) takers.push(incarnation);
      if (takers.length === 2) break;
    }
    return takers;
  }

  missing(tag: string): readonly string[] {
    return this.#choice(tag)?.missing ?? [];
  }

  matching(tag: string): number {
    return this.warm(tag) || this.capable(tag);
  }

  isWarm(tag: string): boolean {
    return this.warm(tag) > 0;
  }

  devices(tag: string): { device: string; count: number }[] {
    const chosen = this.#choice(tag)?.chosen ?? this.#ready();
    const warm = warmOf(tag, chosen);
    const hosts = warm.length > 0 ? warm : chosen.filter((host) => host.failures[tag] === undefined);
    return [...Map.groupBy(hosts, ({ facts }) => facts.device)].map(([device, group]) => ({ device, count: group.length }));
  }

  route(tag: string, reach: TicketReach): TicketRoute | undefined {
    const choice = this.#choice(tag);
    if (!choice) return { warm: reach === "best" && this.warm(tag) > 0 };
    const warm = reach === "best" ? warmOf(tag, choice.chosen) : [];
    // tickets of models without preferences may be taken by any host that holds them: only able ones subscribe
    if (warm.length > 0 && !this.#versionOf(tag)?.config.prefer?.length) return { warm: true };
    const hosts = warm.length > 0 ? warm : reach === "wider" ? this.spare(tag) : choice.chosen;
    const host = hosts[this.#turn++ % hosts.length];
    return host && { warm: warm.length > 0, profile: host.facts.profile };
  }
}

/** What hosts of an earlier version do not say yet. */
function factsIn(text: string): HostFacts {
  const unsaid = { device: "unknown", profile: "", gpus: [], frameworks: ["onnx"], modelMemoryMb: 0, mostModels: 0 };
  return { ...unsaid, ...(JSON.parse(text) as Partial<HostFacts>) } as HostFacts;
}

function changingIn(text: string): ChangingFacts {
  return { usedMs: {}, ...(JSON.parse(text) as Partial<ChangingFacts>) } as ChangingFacts;
}

/** What else lives under its id is shown with each. */
function noteSharedIds(seen: ReadonlyMap<HostSnapshot, SeenHost>): void {
  for (const group of Map.groupBy(seen.keys(), ({ view }) => view.id).values()) {
    if (group.length === 1) continue;
    for (const one of group) {
      const others = group.filter((other) => other !== one && shareTheirId(seen.get(one)!, seen.get(other)!));
      if (others.length === 0) continue;
      one.view.id_shared_with = others.map(({ view: { incarnation, metrics, registered_at } }) => ({
        ...{ incarnation, registered_at },
        ...(metrics !== undefined && { metrics }),
      }));
    }
  }
}

function warmOf(tag: string, hosts: readonly HostSnapshot[]): HostSnapshot[] {
  return hosts.filter((host) => host.subscribed.includes(tag));
}
