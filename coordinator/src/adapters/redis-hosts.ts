/** The host registry on Redis: reads what heartbeats wrote, and decides losses (once, by the store's clock, in lua/lose.lua). */

import type { ChangingFacts, HostFacts, HostView } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { HostDirectory, HostSnapshot } from "../ports/host-registry.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** A host whose last beat is older is lost. */
const presenceWindowMs = 3_000;
/** Lost hosts stay listed this long. */
const showLostMs = 60_000;
const forgetMs = 3_600_000;

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
  #nameQueue: (tag: string) => string | undefined = () => undefined;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  /** Reads all hosts; declares lost those that are silent. */
  async refresh(): Promise<void> {
    const [reply] = await this.#redis.sendAll([["zrange", keys.hosts, 0, -1]]);
    const incarnations = reply as string[];
    const rows = await this.#redis.sendAll(
      incarnations.map((one) => ["hmget", keys.host(one), "state", "beat", "registered", "facts", "changing", "claims", "lost"]),
    );
    const nowMs = this.#redis.nowMs();
    const snapshots: HostSnapshot[] = [];
    for (const [at, incarnation] of incarnations.entries()) {
      const row = rows[at] as (string | null)[];
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
    }
    const known = new Set(incarnations);
    for (const incarnation of this.#parsed.keys()) if (!known.has(incarnation)) this.#parsed.delete(incarnation);
    this.#snapshots = snapshots;
    this.#generation++;
    this.#countWarm();
  }

  /** After a frozen store every beat looks old: judge only after one whole presence window of answers. */
  #mayJudge(): boolean {
    const { answering, sinceMs } = this.#redis.health();
    return answering && sinceMs > presenceWindowMs + 500;
  }

  async #lose(snapshot: HostSnapshot): Promise<void> {
    const answer = await this.#redis.run("lose", keys.host(snapshot.incarnation), [presenceWindowMs]);
    if (answer === "lost") snapshot.view.state = "lost";
  }

  #snapshot(incarnation: string, row: (string | null)[], nowMs: number): HostSnapshot {
    const factsText = row[3] ?? "{}";
    const changingText = row[4] ?? "{}";
    let parsed = this.#parsed.get(incarnation);
    if (parsed?.factsText !== factsText || parsed.changingText !== changingText) {
      parsed = { factsText, changingText, facts: JSON.parse(factsText) as HostFacts, changing: JSON.parse(changingText) as ChangingFacts };
      this.#parsed.set(incarnation, parsed);
    }
    const { facts, changing } = parsed;
    const view: HostView = {
      id: facts.id,
      incarnation,
      state: row[0] === "lost" ? "lost" : changing.draining ? "draining" : "ready",
      providers: facts.providers,
      cores: facts.cores,
      memory_mb: facts.memoryMb,
      labels: facts.labels,
      warm: [],
      metrics: facts.metrics,
      version: facts.version,
      heartbeat_age_ms: Math.max(0, nowMs - Number(row[1])),
      clock_offset_ms: changing.clockOffsetMs,
      registered_at: new Date(Number(row[2])).toISOString(),
    };
    return {
      incarnation,
      view,
      device: facts.device ?? "unknown",
      subscribed: changing.warm,
      loaded: changing.loaded,
      failures: changing.failures,
      claims: (row[5] ?? "").split(" ").filter((claim) => claim !== ""),
      lostMs: row[6] ? Number(row[6]) : undefined,
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

  generation(): number {
    return this.#generation;
  }

  snapshots(): readonly HostSnapshot[] {
    return this.#snapshots;
  }

  list(): HostView[] {
    const nowMs = this.#redis.nowMs();
    const nameOf = (tag: string): string => this.#nameQueue(tag) ?? tag;
    return this.#snapshots
      .filter((host) => host.lostMs === undefined || nowMs - host.lostMs < showLostMs)
      .map(({ view, loaded, failures }) => ({
        ...view,
        warm: view.state === "lost" ? [] : Object.keys(loaded).map(nameOf).sort(),
        ...(Object.keys(failures).length === 0
          ? {}
          : { failures: Object.fromEntries(Object.entries(failures).map(([tag, why]) => [nameOf(tag), why])) }),
      }));
  }

  /** How a queue is shown: `model@version`. */
  nameQueues(name: (tag: string) => string | undefined): void {
    this.#nameQueue = name;
  }

  warm(tag: string): number {
    return this.#warm.get(tag) ?? 0;
  }

  capable(tag: string): number {
    return this.#ready().filter((host) => host.failures[tag] === undefined).length;
  }

  matching(tag: string): number {
    return this.warm(tag) || this.capable(tag);
  }

  isWarm(tag: string): boolean {
    return this.warm(tag) > 0;
  }

  devices(tag: string): { device: string; count: number }[] {
    const isWarm = this.isWarm(tag);
    const hosts = this.#ready().filter((host) => (isWarm ? host.subscribed.includes(tag) : host.failures[tag] === undefined));
    return [...Map.groupBy(hosts, ({ device }) => device)].map(([device, group]) => ({ device, count: group.length }));
  }
}
