/**
 * A host's life: register, take tickets, hand them to the runner, drain. Owns which queues the host is subscribed to: those of warm models,
 * and the cold queue, through which it may be asked for any model that it can load.
 */

import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import type { Clock } from "./clock.ts";
import type { HostMetrics } from "./host-metrics.ts";
import { TicketIntake } from "./intake/bullmq-tickets.ts";
import { KnownModels } from "./models/known-models.ts";
import { type HostFacts, Presence } from "./presence/presence.ts";
import { runScript } from "./redis-connection.ts";
import type { FromRunner, RunnerOptions } from "./runner/messages.ts";
import { RunnerHandle } from "./runner/runner-handle.ts";

const renewEveryMs = 500;
/** A model that this host was asked for twice within this time through the cold queue gets a subscription of its own. */
const coldAgainMs = 30_000;
/** A repository this small is loaded before the host registers, so that first requests find it warm. */
const preload = { models: 8, bytes: 512 * 1024 * 1024, waitMs: 20_000 };

/** How long a host that was given up waits for its run to end. */
const lostRunMs = 10_000;

export interface HostParts {
  redis: Redis;
  clock: Clock;
  facts: Omit<HostFacts, "providers">;
  runner: Omit<RunnerOptions, "claimBoard">;
  metrics: HostMetrics;
  log: (event: string, fields?: Record<string, unknown>) => void;
  /** The cluster gave this host up, or its runner died: the process must end and start anew. */
  onLost: (why: string) => void;
}

export class Host {
  readonly #parts: HostParts;
  readonly #runner: RunnerHandle;
  readonly #models: KnownModels;
  readonly #intake: TicketIntake;
  readonly #loaded = new Map<string, { maxItems: number; reason: string }>();
  readonly #failures = new Map<string, string>();
  readonly #coldSince = new Map<string, number>();
  readonly #stop = new AbortController();
  readonly #waitingForLoad = new Map<string, () => void>();
  #presence: Presence | undefined;
  #draining = false;

  constructor(parts: HostParts) {
    this.#parts = parts;
    this.#models = new KnownModels(parts.redis);
    this.#runner = new RunnerHandle(parts.runner, (message) => this.#heard(message));
    this.#intake = new TicketIntake({
      connection: parts.redis,
      hostId: parts.facts.id,
      clock: parts.clock,
      onTicket: (tag, ticketId, cold) => this.#onTicket(tag, ticketId, cold),
      onTrouble: (message) => parts.log("ticket_trouble", { message }),
      onLockLost: () => parts.metrics.ticketLockLost(),
    });
  }

  async start(): Promise<void> {
    const { clock, facts, log, onLost, redis } = this.#parts;
    void this.#runner.ended().then((code) => {
      if (!this.#stop.signal.aborted) onLost(`the runner thread ended with code ${code}`);
    });
    const providers = await this.#runner.started();
    await this.#preload();
    this.#presence = new Presence({
      redis,
      clock,
      facts: { ...facts, providers },
      changing: () => ({
        warm: this.#intake.subscribed(),
        loaded: Object.fromEntries(this.#loaded),
        failures: Object.fromEntries(this.#failures),
        draining: this.#draining,
      }),
      knownClaims: () => this.#runner.knownClaim(),
      onLost: () => void this.#giveUp("the cluster declared this host lost"),
      onBeat: () => void this.#models.refresh().catch(() => {}),
    });
    for (const tag of this.#loaded.keys()) await this.#intake.subscribe(tag);
    await this.#presence.register();
    await this.#intake.subscribeCold();
    void this.#renewals();
    log("registered", { host: facts.id, incarnation: facts.incarnation, providers, warm: this.#loaded.size });
  }

  /** Waits for the first registry, then loads a small repository whole. A model that fails is told with the heartbeat. */
  async #preload(): Promise<void> {
    const { clock } = this.#parts;
    const giveUpMs = clock.monotonicMs() + preload.waitMs;
    while (!(await this.#models.refresh()) && !this.#models.published() && clock.monotonicMs() < giveUpMs) await clock.sleep(100);
    const versions = this.#models.loadable();
    const bytes = versions.reduce((sum, version) => sum + version.sizeBytes, 0);
    if (versions.length > preload.models || bytes > preload.bytes) return;
    const loads = versions.map((version) => {
      const done = new Promise<void>((resolve) => this.#waitingForLoad.set(version.tag, resolve));
      this.#runner.load(version);
      return done;
    });
    await Promise.race([Promise.all(loads), clock.sleep(Math.max(0, giveUpMs - clock.monotonicMs()))]);
  }

  async #onTicket(tag: string, ticketId: string, cold: boolean): Promise<void> {
    const { redis, facts, log } = this.#parts;
    try {
      const version = await this.#version(tag);
      const taken = await runScript(redis, "take", keys.base(tag), [facts.incarnation, ticketId]);
      if (taken === "barred") return void this.#giveUp("the cluster barred this host");
      if (taken !== "held") return;
      if (!version || this.#draining) return await this.#release(tag, ticketId);
      if (cold) this.#countCold(tag);
      const end = await this.#runner.serve(ticketId, version);
      if (end === "release") await this.#release(tag, ticketId);
    } catch (error) {
      log("ticket_failed", { tag, ticketId, message: (error as Error).message }); // the sweeper replaces the ticket
    }
  }

  async #version(tag: string) {
    const known = this.#models.byTag(tag);
    if (known) return known;
    await this.#models.refresh();
    return this.#models.byTag(tag);
  }

  /** Gives a ticket up; where jobs wait, the next one is offered to other hosts. */
  async #release(tag: string, ticketId: string): Promise<void> {
    const issued = (await runScript(this.#parts.redis, "release", keys.base(tag), [
      tag,
      this.#parts.facts.incarnation,
      ticketId,
      1,
    ])) as string[];
    if (issued.length > 0) await this.#intake.offer(tag, issued, true);
  }

  #countCold(tag: string): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const before = this.#coldSince.get(tag);
    this.#coldSince.set(tag, nowMs);
    if (before === undefined || nowMs - before > coldAgainMs || !this.#loaded.has(tag)) return;
    this.#coldSince.delete(tag);
    void this.#subscribeNow(tag);
  }

  async #subscribeNow(tag: string): Promise<void> {
    await this.#intake.subscribe(tag);
    await this.#presence?.beatNow().catch(() => {});
  }

  #heard(message: FromRunner): void {
    const { metrics, log } = this.#parts;
    switch (message.kind) {
      case "loaded":
        this.#loaded.set(message.tag, { maxItems: message.maxItems, reason: message.reason });
        this.#failures.delete(message.tag);
        metrics.modelLoaded(this.#models.byTag(message.tag), message.loadMs);
        this.#waitingForLoad.get(message.tag)?.();
        return;
      case "load_failed":
        this.#failures.set(message.tag, message.reason);
        log("model_failed", { tag: message.tag, reason: message.reason });
        this.#waitingForLoad.get(message.tag)?.();
        return;
      case "evicted":
        this.#loaded.delete(message.tag);
        void this.#intake.unsubscribe(message.tag).catch(() => {});
        return;
      case "ran":
        metrics.ran(this.#models.byTag(message.tag), message);
        return;
      case "barred":
        void this.#giveUp("the cluster barred this host");
        return;
      case "started":
      case "ended":
      case "drained":
        return;
    }
  }

  /** Keeps held tickets counted while the runner's thread is blocked. */
  async #renewals(): Promise<void> {
    const { clock, facts, redis } = this.#parts;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(renewEveryMs, this.#stop.signal);
      for (const ticketId of this.#runner.held()) {
        await runScript(redis, "renew", keys.base(ticketId.slice(0, 10)), [facts.incarnation, ticketId]).catch(() => {});
      }
    }
  }

  /** Is this host part of the cluster, with a store that answers? */
  ready(): boolean {
    return !this.#draining && this.#presence !== undefined && this.#presence.silentMs() < 5_000;
  }

  registered(): boolean {
    return this.#presence !== undefined;
  }

  /** Nothing of this incarnation counts any more. Its thread may be in mid-run, though, and a process that ends then crashes. */
  async #giveUp(why: string): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#stop.abort();
    this.#presence?.stop();
    void this.#intake.pause();
    this.#runner.drain();
    await Promise.race([this.#runner.ended(), this.#parts.clock.sleep(lostRunMs)]);
    this.#parts.onLost(why);
  }

  /** Stops claiming, finishes and commits what runs, gives tickets up, says goodbye. Never longer than `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#stop.abort();
    const { clock, log } = this.#parts;
    const work = async (): Promise<void> => {
      await this.#presence?.beatNow().catch(() => {});
      void this.#intake.pause();
      this.#runner.drain();
      await this.#runner.ended();
      await this.#intake.close(2_000);
      await this.#presence?.deregister();
    };
    const inTime = await Promise.race([work().then(() => true), clock.sleep(limitMs).then(() => false)]);
    log(inTime ? "drained" : "drain_timed_out");
  }
}
