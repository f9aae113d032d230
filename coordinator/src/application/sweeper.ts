/**
 * What every coordinator repairs, all of it idempotent: queues with open jobs more than four times a second, all queues each ten seconds, hosts that
 * fell silent. Nothing here needs a leader; two coordinators doing it at once do it once.
 */

import type { Clock } from "../clock.ts";
import type { HostDirectory, HostSnapshot } from "../ports/host-registry.ts";
import type { JobStore, SweepAnswer } from "../ports/job-store.ts";
import type { Log } from "../ports/log.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { TicketQueue } from "../ports/ticket-queue.ts";

const sweepsPerFullRound = 44; // about ten seconds
const usualBatchItems = 8;
/** A queue that has waited this long may also be taken by hosts that do not hold its model yet. */
const spreadAfterMs = 250;
/** A queue whose preferred hosts leave it waiting this long may also be taken by others. */
const spillAfterMs = 5_000;
/** Sweeps (225 ms each; some are sooner after one that took long) for which a claim must be unknown to its host: more than two beats. */
const unknownSweeps = 13;
/** A host whose last beat is older may be dead: presence decides what became of its claims, and counts it where it died. */
const freshBeatMs = 1_500;

/** What is late is looked at again after this time: as lua/lib-handing.lua has it, and a little. */
const doubtedMs = 30;

interface Parts {
  store: JobStore;
  clock: Pick<Clock, "sleep">;
  hosts: HostDirectory;
  models: ModelRegistry;
  tickets: TicketQueue;
  metrics: Metrics;
  log: Log;
  /** Told of a queue that has no open job any more. */
  onIdle?: (tag: string) => void;
  /** Told of a queue in which jobs that ended together may be over. */
  onOver?: (tag: string) => void;
}

export class Sweeper {
  readonly #parts: Parts;
  /** Queues that may have open jobs. */
  readonly #open = new Set<string>();
  readonly #remembered = new Set<string>();
  /** Queues whose figures were told. */
  readonly #shown = new Set<string>();
  /** Queues whose figures could not be told, because no version was known yet. */
  readonly #untold = new Set<string>();
  /** Lost incarnations whose claims were taken back in every queue that they could have reached. */
  readonly #buried = new Set<string>();
  /**
   * By queue: in how many sweeps in a row each outstanding claim was met that its host does not tell of. One that is new is no cause for alarm.
   * What is outstanding no more is forgotten.
   */
  readonly #unknown = new Map<string, ReadonlyMap<string, number>>();
  #rounds = 0;
  /** By the store's clock. */
  readonly #begunMs: number;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#begunMs = parts.store.nowMs();
  }

  /** A queue has work: sweep it often until it is empty. */
  noteOpen(tag: string): void {
    this.#open.add(tag);
    this.remember(tag);
  }

  /** Sent at once: a server has it before any job that is sent after it. In a cluster, where it may lie on another master, they are under way together. */
  remember(tag: string): void {
    if (this.#remembered.has(tag)) return;
    this.#remembered.add(tag);
    // known to every coordinator, also after its model has left the repository
    this.#parts.store.rememberQueue(tag).catch(() => this.#remembered.delete(tag));
  }

  /** Queues that may have open jobs. */
  openTags(): string[] {
    return [...this.#open];
  }

  /** One round of the loop, every 225 ms: a deadline that nobody waits for is told within 250. What fails for one host or queue does not keep the others waiting. */
  async round(): Promise<void> {
    const { hosts, models, store } = this.#parts;
    const all = this.#rounds++ % sweepsPerFullRound === 0;
    // asked together: at rest a round is one round trip
    const served = all ? [] : this.#served();
    const [openServed, looked] = await Promise.allSettled([store.openQueues(served), hosts.refresh()]);
    if (looked.status === "rejected") throw looked.reason;
    const failures = [...(await this.#buryLost())];
    if (openServed.status === "rejected") failures.push(openServed.reason);
    else for (const tag of openServed.value) this.#open.add(tag);
    // jobs that another coordinator admitted before it died show in the queues that hosts serve, or in the full round
    const known = all ? [...new Set([...models.tags(), ...models.abandoned(), ...(await this.#knownQueues())])] : this.#newly(served);
    const [open, keeping] = await Promise.all([store.openQueues(known, all ? "listed" : undefined), all ? store.keepingEnded(known) : []]);
    for (const tag of open) this.#open.add(tag);
    for (const tag of keeping) {
      this.remember(tag);
      this.#parts.onOver?.(tag);
    }
    // one that has just started knows of no model yet, and would forget what all of them took
    if (all && models.indexed()) await this.#forgetGone(known);
    this.#openUntold();
    const sweeps = await Promise.allSettled([...this.#open].map((tag) => this.#sweep(tag)));
    this.#dropGone();
    failures.push(...sweeps.flatMap((sweep) => (sweep.status === "rejected" ? [sweep.reason] : [])));
    if (failures.length > 0) throw failures[0];
  }

  /**
   * With those that this coordinator takes for remembered: another one may have forgotten them, or a fail-over have lost their place. Those of them that are
   * open, or keep what ended, are remembered again.
   */
  async #knownQueues(): Promise<string[]> {
    const known = new Set(await this.#parts.store.knownQueues());
    const lost = [...this.#remembered].filter((tag) => !known.has(tag));
    for (const tag of lost) this.#remembered.delete(tag);
    for (const tag of this.#open) this.remember(tag);
    return [...known, ...lost];
  }

  /** Queues of models that left the repository: their jobs end by their deadlines, then nothing of them stays. */
  async #forgetGone(known: readonly string[]): Promise<void> {
    const { models, store } = this.#parts;
    const current = new Set(models.tags());
    for (const tag of known) {
      if (this.#open.has(tag) || (!(await models.forgetChoosy(tag)) && current.has(tag))) continue;
      await store.forgetQueue(tag);
      this.#remembered.delete(tag);
    }
  }

  /** What holds nothing but dead letters is looked at only in a full round, and without its figures their number would seem to have grown from none by then. */
  #openUntold(): void {
    if (!this.#parts.models.indexed()) return;
    for (const tag of this.#untold) this.#open.add(tag);
    this.#untold.clear();
  }

  /** Nobody tells the figures of a queue again whose version is gone: the last ones would stand for as long as the model does. */
  #dropGone(): void {
    const { metrics, models } = this.#parts;
    for (const tag of this.#shown) if (!models.versionOf(tag) && this.#shown.delete(tag)) metrics.queueGone(tag);
  }

  #served(): string[] {
    return [...new Set(this.#parts.hosts.snapshots().flatMap((host) => host.subscribed))];
  }

  /** What hosts serve since. */
  #newly(served: readonly string[]): string[] {
    return this.#served().filter((tag) => !served.includes(tag));
  }

  async #sweep(tag: string): Promise<void> {
    const { clock, hosts, metrics, models, store } = this.#parts;
    const warm = hosts.warm(tag);
    let answer = await this.#swept(tag);
    if (answer.doubted > 0) {
      await clock.sleep(doubtedMs);
      answer = await this.#swept(tag);
    }
    await this.#checkClaims(tag, answer);
    const { waiting, running, oldestMs, dead } = answer.figures;
    const figures = { waiting, running, oldestSeconds: oldestMs / 1_000, dead };
    const version = models.versionOf(tag); // it may have gone meanwhile
    if (version) {
      metrics.queueFigures({ model: version.model, version: version.version, tag }, figures);
      this.#shown.add(tag);
    } else if (!models.indexed()) this.#untold.add(tag);
    const spare = hosts.spare(tag).length > 0;
    const spills = spare && oldestMs > spillAfterMs;
    if (answer.tickets.length === 0 && waiting > 0) {
      if (oldestMs > spreadAfterMs && warm > 0 && hosts.capable(tag) > warm) await this.#spread(tag, warm, "cold");
      else if (spills) await this.#spread(tag, hosts.matching(tag), "wider");
    }
    if (spare && !spills) await this.#callBack(tag);
    if (waiting + running > 0 || (await store.openQueues([tag])).length > 0) return;
    this.#open.delete(tag);
    this.#unknown.delete(tag);
    this.#parts.onIdle?.(tag);
  }

  async #swept(tag: string): Promise<SweepAnswer> {
    const { hosts, metrics, models, store, tickets } = this.#parts;
    const status = models.byTag(tag);
    const answer = await store.sweep(tag, hosts.matching(tag), status?.batching?.maxItems ?? usualBatchItems, hosts.takers(tag));
    // without its model in the registry no host could run it
    if (status) for (const ticketId of answer.tickets) tickets.offer(tag, ticketId);
    if (answer.returned > 0) metrics.jobsReturned("handed_late", answer.returned);
    if (answer.toForget) this.#parts.onOver?.(tag);
    return answer;
  }

  /** Every host that is asked is busy and jobs wait: ask one more, which may have to load the model. */
  async #spread(tag: string, asked: number, reach: "cold" | "wider"): Promise<void> {
    const more = await this.#parts.store.sweep(tag, asked + 1, 1);
    for (const ticketId of more.tickets) this.#parts.tickets.offer(tag, ticketId, reach);
  }

  /** Better hosts are there, or there again: those that only filled in finish the batch at hand and leave the queue. */
  async #callBack(tag: string): Promise<void> {
    const { hosts, store } = this.#parts;
    const spare = new Set(hosts.spare(tag).map((host) => host.incarnation));
    await store.callBack(tag, (incarnation) => spare.has(incarnation));
  }

  /** Claims of hosts that are gone go back; so do claims that their living host does not know (the reply was lost). */
  async #checkClaims(tag: string, answer: SweepAnswer): Promise<void> {
    const { hosts, metrics, store } = this.#parts;
    const byIncarnation = new Map(hosts.snapshots().map((host) => [host.incarnation, host]));
    const before = this.#unknown.get(tag);
    const unknown = new Map<string, number>();
    for (const { incarnation, sequence } of answer.claims) {
      const host = byIncarnation.get(incarnation);
      const claim = `${incarnation} ${sequence}`;
      const sweeps = before?.get(claim) ?? 0;
      if (host?.view.state === "lost") await this.#takeBack(tag, incarnation);
      else if (host?.claims.includes(`${tag}=${sequence}`)) continue;
      else if (host && host.view.heartbeat_age_ms > freshBeatMs) unknown.set(claim, sweeps);
      else if (sweeps + 1 < unknownSweeps) unknown.set(claim, sweeps + 1);
      else if (host) metrics.jobsReturned("unknown_claim", await store.returnClaim(tag, incarnation, sequence));
      else await this.#takeBack(tag, incarnation); // its registration is gone altogether
    }
    if (unknown.size > 0) this.#unknown.set(tag, unknown);
    else this.#unknown.delete(tag);
  }

  /**
   * A host that was lost is barred in every queue that it served, and its claims go back. Answers what failed; the next round tries again. It is counted and
   * logged once by each coordinator that was there when it was lost: those lost before stay listed for an hour, and one that starts in it has not lost them.
   */
  async #buryLost(): Promise<unknown[]> {
    const { hosts, log, metrics } = this.#parts;
    const failures: unknown[] = [];
    for (const host of hosts.snapshots()) {
      if (host.view.state !== "lost" || this.#buried.has(host.incarnation)) continue;
      const taken = await Promise.allSettled(this.#reachOf(host).map((tag) => this.#takeBack(tag, host.incarnation)));
      const failed = taken.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
      failures.push(...failed);
      if (failed.length > 0) continue;
      this.#buried.add(host.incarnation);
      if (host.hasLeft || (host.lostMs !== undefined && host.lostMs < this.#begunMs)) continue;
      metrics.hostLost();
      log.warn("host_lost", { host: host.view.id, incarnation: host.incarnation });
    }
    const remembered = new Set(hosts.snapshots().map((host) => host.incarnation));
    for (const incarnation of this.#buried) if (!remembered.has(incarnation)) this.#buried.delete(incarnation);
    return failures;
  }

  #reachOf(host: HostSnapshot): string[] {
    const claimed = host.claims.map((claim) => claim.split("=")[0] as string);
    return [...new Set([...host.subscribed, ...Object.keys(host.loaded), ...claimed, ...this.#open])];
  }

  async #takeBack(tag: string, incarnation: string): Promise<void> {
    const { hosts, metrics, models, store, tickets } = this.#parts;
    const batchItems = models.byTag(tag)?.batching?.maxItems ?? usualBatchItems;
    const answer = await store.takeBack(tag, incarnation, hosts.matching(tag), batchItems);
    for (const ticketId of answer.tickets) tickets.offer(tag, ticketId);
    metrics.jobsReturned("lost_host", answer.returned);
    if (answer.returned > 0) this.#open.add(tag);
  }
}
