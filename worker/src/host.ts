/**
 * A host's life: register, take tickets, hand them to the runner, drain. Owns which queues the host is subscribed to: those of warm models,
 * and the cold queue, through which it may be asked for any model that it can load.
 */

import type { ModelVersion } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { Abilities, type GivenFacts } from "./capabilities/abilities.ts";
import type { Clock } from "./clock.ts";
import type { HostMetrics } from "./host-metrics.ts";
import { TicketIntake } from "./intake/bullmq-tickets.ts";
import { HeldModels } from "./models/held-models.ts";
import { KnownModels, type RegistryChange } from "./models/known-models.ts";
import { LeavingModels } from "./models/leaving-models.ts";
import { PlacementOrders } from "./models/placement-orders.ts";
import { Presence } from "./presence/presence.ts";
import { RequestedDrain } from "./presence/requested-drain.ts";
import { RunReports } from "./presence/run-reports.ts";
import { SeenFolder } from "./presence/seen-folder.ts";
import { SharedId } from "./presence/shared-id.ts";
import type { RedisClient } from "./redis-client.ts";
import { runScript } from "./redis-connection.ts";
import type { ClaimTold, FromRunner, RunnerOptions, SettlementTold } from "./runner/messages.ts";
import { RunnerHandle } from "./runner/runner-handle.ts";
import { TicketDesk } from "./ticket-desk.ts";

const renewEveryMs = 500;
/** A model whose jobs this host ran twice within this time under cold tickets gets a subscription of its own. */
const coldAgainMs = 30_000;
/** A repository this small is loaded before the host registers, so that first requests find it warm. */
const preload = { models: 8, bytes: 512 * 1024 * 1024, waitMs: 20_000 };
/** How long a host that was given up waits for its run to end. */
const lostRunMs = 10_000;
/** How long a host that never registered waits for its runner, which has no job. */
const unregisteredMs = 1_000;
/** How long a host whose process is about to be killed tries to say goodbye. */
const farewellMs = 1_000;
const silentMs = 5_000;
/** A run of another queue that usually takes as long keeps a ticket from acting: another host is asked as well. */
const longRunMs = 100;
/** Changes that come together are told by one beat. */
const beatSoonMs = 20;
/** What was counted is told after this time, so that statistics follow what clients have seen; always with the next beat. */
const tellSoonMs = 100;

export interface HostParts {
  redis: RedisClient;
  clock: Clock;
  facts: GivenFacts;
  runner: Omit<RunnerOptions, "claimBoard">;
  metrics: HostMetrics;
  log: (event: string, fields?: Record<string, unknown>) => void;
  /** Hears of the jobs that the runner was told to follow. */
  onFollowed?: (told: ClaimTold | SettlementTold, version: ModelVersion | undefined) => void;
  /** The cluster gave this host up, or its runner died: the process must end and start anew. `quiet`: as in `drain`. */
  onLost: (why: string, end: { quiet: boolean }) => void;
}

export class Host {
  readonly #parts: HostParts;
  readonly #runner: RunnerHandle;
  readonly #known: KnownModels;
  readonly #held: HeldModels;
  readonly #desk: TicketDesk;
  readonly #intake: TicketIntake;
  readonly #reports: RunReports;
  readonly #orders: PlacementOrders;
  readonly #leaving: LeavingModels;
  readonly #requestedDrain: RequestedDrain;
  readonly #sharedId: SharedId;
  readonly #seenFolder: SeenFolder;
  readonly #coldSince = new Map<string, number>();
  /** Of a repository that is loaded before requests come. */
  readonly #ahead = new Set<string>();
  readonly #stop = new AbortController();
  #abilities: Abilities | undefined;
  #presence: Presence | undefined;
  #registered = false;
  #beatPlanned = false;
  #tellPlanned = false;
  /** What the runner had in hand when tickets were renewed the last time, and since which of these times. */
  #claimsSince: ReadonlyMap<string, number> = new Map();
  /** Set once: drained or given up, whichever came first. */
  #ending: Promise<void> | undefined;
  #runnerEnded = false;

  constructor(parts: HostParts) {
    const { clock, facts, log, metrics, redis } = parts;
    this.#parts = parts;
    this.#known = new KnownModels(redis);
    this.#reports = new RunReports(redis, facts.incarnation);
    this.#runner = new RunnerHandle(parts.runner, (message) => this.#heard(message));
    this.#held = new HeldModels({ clock, load: (version) => this.#runner.load(version) });
    this.#leaving = new LeavingModels({ known: this.#known, held: this.#held, unload: (version) => this.#runner.unload(version) });
    this.#desk = new TicketDesk({
      redis,
      clock,
      incarnation: facts.incarnation,
      known: this.#known,
      held: this.#held,
      runner: this.#runner,
      stop: this.#stop.signal,
      rests: () => this.#requestedDrain.rests(),
      isOccupied: (tag) => this.#isOccupied(tag),
      fits: (version) => this.#fits(version),
      offer: (ticketIds) => this.#intake.offerCold(ticketIds),
      subscribe: (tag) => this.#subscribe(tag),
      tellHeld: async () => await this.#presence?.beatNow().catch(() => {}),
      onBarred: () => this.#giveUp("the cluster barred this host"),
      log,
    });
    this.#intake = new TicketIntake({
      connection: redis,
      hostId: facts.id,
      clock,
      onTicket: (tag, ticketId, cold) => this.#desk.onTicket(tag, ticketId, cold),
      onTrouble: (message) => log("ticket_trouble", { message }),
      onLockLost: () => metrics.ticketLockLost(),
    });
    this.#seenFolder = new SeenFolder(parts.runner.blobsFolder);
    this.#sharedId = new SharedId({ redis, clock, facts, log });
    this.#requestedDrain = new RequestedDrain({
      isAsked: async () => (await redis.hexists(keys.drains, facts.id)) === 1,
      stop: this.#stop.signal,
      rest: () => {
        log("drain_asked");
        this.#intake.rest();
      },
      resume: () => {
        log("drain_lifted");
        this.#intake.resume();
      },
      held: () => this.#desk.held(),
      release: (ticketId) => this.#desk.release(tagOf(ticketId), ticketId),
      subscribe: async () => {
        await this.#subscribeHeld();
        await this.#intake.subscribeCold(this.#abilities!.facts.profile);
      },
      onChange: () => this.#beatSoon(),
    });
    this.#orders = new PlacementOrders({
      redis,
      incarnation: facts.incarnation,
      known: this.#known,
      held: this.#held,
      runner: this.#runner,
      stop: this.#stop.signal,
      fits: (version) => this.#fits(version),
      serves: (tag) => this.#desk.held().some((ticketId) => tagOf(ticketId) === tag),
      subscribe: (tag) => this.#subscribe(tag),
      unsubscribe: (tag) => this.#unsubscribe(tag),
      log,
    });
  }

  async start(): Promise<void> {
    const { clock, log, metrics, redis } = this.#parts;
    void this.#runner.ended().then(({ code, error }) => {
      this.#runnerEnded = true;
      if (!this.#stop.signal.aborted) this.#giveUp(`the runner thread ended with code ${code}${error ? `: ${error.message}` : ""}`);
    });
    this.#abilities = new Abilities(this.#parts.facts, this.#parts.runner, await this.#runner.started());
    const { facts } = this.#abilities;
    await this.#preload();
    if (this.#stop.signal.aborted) return;
    this.#presence = new Presence({
      redis,
      clock,
      facts,
      changing: () => ({
        warm: this.#intake.subscribed(),
        loaded: this.#held.tellLoaded(),
        usedMs: this.#held.tellUsed(),
        batches: this.#held.tellBatches(),
        failures: this.#held.tellFailures(),
        draining: this.#stop.signal.aborted || this.#requestedDrain.rests(),
        tickets: this.#desk.held().length,
        ...this.#seenFolder.told(),
      }),
      knownClaims: () => this.#runner.knownClaim(),
      onLost: () => this.#giveUp("the cluster declared this host lost"),
      onBeat: () => void this.#afterBeat().catch((error: Error) => this.#troubleAfterBeat(error)),
      onRoundtrip: (ms) => metrics.storeRoundtrip(ms / 1_000),
    });
    this.#seenFolder.look();
    await this.#requestedDrain.begin();
    await this.#subscribeHeld();
    await this.#presence.register();
    this.#registered = true;
    await this.#intake.subscribeCold(facts.profile);
    void this.#renewals();
    const { device, id, incarnation, providers } = facts;
    const unasked = this.#abilities.unasked();
    if (unasked.length > 0)
      log("gpu_by_request_only", {
        message: `models that require no provider run on the CPU; SWITCHYARD_PROVIDERS=${unasked[0]} gives them the GPU`,
      });
    metrics.registered(facts, () => ({
      models: this.#held.count(),
      modelBytes: this.#held.sizeBytes(),
      tickets: this.#desk.held().length,
    }));
    log("registered", { host: id, incarnation, device, providers, warm: this.#held.count() });
  }

  async #subscribeHeld(): Promise<void> {
    for (const tag of this.#held.tags()) await this.#intake.subscribe(tag, this.#profileFor(tag));
  }

  #fits(version: ModelVersion): boolean {
    return this.#abilities?.fits(version) ?? false;
  }

  #profileFor(tag: string): string | undefined {
    return this.#abilities?.profileFor(this.#known.byTag(tag));
  }

  /** Waits for the first registry, then loads a small repository whole. A model that fails is told with the heartbeat. */
  async #preload(): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#stop;
    const giveUpMs = clock.monotonicMs() + preload.waitMs;
    await this.#known.refresh();
    while (!this.#known.published() && clock.monotonicMs() < giveUpMs && !signal.aborted) {
      await clock.sleep(100, signal);
      await this.#known.refresh();
    }
    const versions = this.#known.loadable().filter((version) => this.#fits(version) && version.config.max_replicas === undefined);
    const bytes = versions.reduce((sum, version) => sum + version.sizeBytes, 0);
    if (versions.length > preload.models || bytes > preload.bytes) return;
    for (const { tag } of versions) this.#ahead.add(tag);
    const loads = versions.map((version) => this.#held.load(version, signal));
    await Promise.race([Promise.all(loads), clock.sleep(Math.max(0, giveUpMs - clock.monotonicMs()), signal)]);
  }

  async #afterBeat(): Promise<void> {
    // asked together: at rest that is all that a beat looks at
    const orders = this.#orders.ask();
    orders.catch(() => {}); // thrown where it is awaited
    this.#seenFolder.look();
    await Promise.all([this.#requestedDrain.follow(), this.#known.refresh()]);
    const change = this.#known.takeChange();
    if (change) await this.#followSettings(change);
    // to follow settings takes its time, and orders go with their moment
    await this.#orders.follow(change ? this.#orders.ask() : orders);
    this.#leaving.letGo();
    // some came late: their load took long, or had to be tried again
    for (const tag of this.#ahead) if (this.#held.holds(tag) && this.#known.byTag(tag)) await this.#subscribe(tag);
    this.#retryLoad();
    await this.#tell();
    await this.#sharedId.follow();
  }

  /** The next beat goes on with what is left. */
  #troubleAfterBeat({ message }: Error): void {
    if (!this.#stop.signal.aborted) this.#parts.log("beat_trouble", { message });
  }

  async #tell(): Promise<void> {
    if (this.#abilities) await this.#reports.flush(this.#abilities.facts.device);
  }

  #tellSoon(): void {
    if (this.#tellPlanned) return;
    this.#tellPlanned = true;
    this.#parts.clock.after(tellSoonMs, () => {
      this.#tell()
        .catch(() => {}) // the next beat tells it
        .finally(() => {
          this.#tellPlanned = false;
        });
    });
  }

  /** What models require and prefer may have changed under tickets that this host takes. It is told once: what may fail comes last. */
  async #followSettings({ forgotten, removed }: RegistryChange): Promise<void> {
    this.#parts.metrics.keepModels(this.#known.models());
    for (const tag of this.#intake.subscribed()) {
      const version = this.#known.byTag(tag);
      if (!version || !this.#fits(version)) this.#unsubscribe(tag);
    }
    // whoever has changed them waits for the model as it is to be, and no request should wait for that
    for (const version of this.#held.outdated((tag) => this.#known.byTag(tag))) {
      this.#held.forget(version.tag);
      if (this.#fits(version) && !version.unloaded) this.#runner.load(version);
    }
    for (const version of forgotten) this.#held.forget(version.tag);
    this.#leaving.add([...removed, ...forgotten]);
    for (const tag of this.#intake.subscribed()) {
      if (this.#stop.signal.aborted || !this.#known.byTag(tag)) continue;
      await this.#intake.subscribe(tag, this.#profileFor(tag));
    }
  }

  /** A model that would not load is tried again when its back-off ends, unless that would push out another. */
  #retryLoad(): void {
    const { cacheBytes, cacheModels } = this.#parts.runner;
    if (this.#stop.signal.aborted || this.#held.isLoading()) return;
    const version = this.#held.retryDue((tag) => this.#known.byTag(tag));
    if (!version || !this.#fits(version) || !this.#held.hasRoomFor(version, { models: cacheModels, bytes: cacheBytes })) return;
    void this.#held.load(version, this.#stop.signal);
  }

  async #subscribe(tag: string): Promise<void> {
    if (this.#stop.signal.aborted || this.#requestedDrain.rests() || this.#orders.isDropping(tag)) return;
    this.#coldSince.delete(tag);
    const isNew = !this.#intake.isSubscribed(tag);
    await this.#intake.subscribe(tag, this.#profileFor(tag));
    if (isNew) this.#beatSoon();
  }

  /** Takes no further tickets from now on; those at hand go on, and nobody waits for them here. */
  #unsubscribe(tag: string): void {
    if (!this.#intake.isSubscribed(tag)) return;
    this.#intake.unsubscribe(tag).catch((error: Error) => this.#parts.log("ticket_trouble", { message: error.message }));
    this.#beatSoon();
  }

  /** A batch ran. Under a cold ticket that is demand; a second time, it is worth a subscription. */
  #countCold(tag: string): void {
    if (!this.#held.holds(tag) || this.#intake.isSubscribed(tag)) return;
    const nowMs = this.#parts.clock.monotonicMs();
    const before = this.#coldSince.get(tag);
    this.#coldSince.set(tag, nowMs);
    if (before === undefined || nowMs - before > coldAgainMs) return;
    this.#subscribe(tag).catch((error: Error) => this.#parts.log("ticket_trouble", { message: error.message }));
  }

  /** What coordinators route by has changed. */
  #beatSoon(): void {
    if (this.#beatPlanned || !this.#registered) return;
    this.#beatPlanned = true;
    this.#parts.clock.after(beatSoonMs, () => {
      this.#beatPlanned = false;
      if (!this.#stop.signal.aborted) void this.#presence?.beatNow().catch(() => {}); // the next beat tells it
    });
  }

  #heard(message: FromRunner): void {
    const { metrics, log } = this.#parts;
    switch (message.kind) {
      case "loaded":
        this.#held.loaded(message.tag, message);
        this.#leaving.loaded(message.version);
        this.#reports.loaded(message.tag, { warmUp: message.warmUpMs, loadMs: message.loadMs });
        metrics.modelLoaded(this.#known.byTag(message.tag), message.loadMs);
        return;
      case "load_failed":
        this.#held.failed(message.tag, message.reason);
        metrics.modelFailed(this.#known.byTag(message.tag));
        log("model_failed", { tag: message.tag, reason: message.reason });
        this.#beatSoon();
        return;
      case "evicted":
        this.#held.evicted(message.tag);
        this.#coldSince.delete(message.tag);
        this.#ahead.delete(message.tag);
        this.#unsubscribe(message.tag);
        return;
      case "ran":
        if (message.jobs > 0) this.#held.ran(message.tag, message);
        metrics.ran(this.#known.byTag(message.tag), message);
        this.#reports.ran(message.tag, message);
        this.#countCold(message.tag);
        return;
      case "counted":
        for (const [tag, tally] of message.tallies) this.#reports.counted(tag, tally);
        this.#tellSoon();
        return;
      case "claimed":
      case "settled":
        this.#parts.onFollowed?.(message, this.#known.byTag(message.tag));
        return;
      case "trouble":
        log("runner_trouble", { ...(message.tag !== undefined && { tag: message.tag }), message: message.message });
        return;
      case "barred":
        this.#giveUp("the cluster barred this host");
        return;
      case "together":
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
      const claims = this.#claims();
      for (const ticketId of this.#desk.held()) {
        const tag = tagOf(ticketId);
        const how = this.#isOccupied(tag) ? ["occupied"] : [];
        await runScript(redis, "renew", keys.base(tag), [facts.incarnation, ticketId, ...how]).catch(() => {});
      }
      const nowMs = clock.monotonicMs();
      this.#claimsSince = new Map(claims.map((claim) => [claim, this.#claimsSince.get(claim) ?? nowMs]));
    }
  }

  /** `<tag>=<sequence>` of what the runner has in hand. */
  #claims(): string[] {
    return this.#runner.knownClaim().split(" ").filter(Boolean);
  }

  /** A ticket that waits for the end of another queue's run, or load, is not one that can act. */
  #isOccupied(tag: string): boolean {
    const nowMs = this.#parts.clock.monotonicMs();
    const runsLong = this.#claims().some((claim) => {
      const [other = ""] = claim.split("=");
      const sinceMs = this.#claimsSince.get(claim) ?? nowMs;
      return other !== tag && (nowMs - sinceMs >= longRunMs || this.#held.usualRunMs(other) >= longRunMs);
    });
    return runsLong || this.#held.isHeldUp(tag);
  }

  /** Nobody counts this host among those that could take jobs from now on, so its tickets must not stand for any of them. */
  async #leaveTickets(): Promise<void> {
    const { facts, redis } = this.#parts;
    const leave = (ticketId: string) => runScript(redis, "renew", keys.base(tagOf(ticketId)), [facts.incarnation, ticketId, "leaving"]);
    await Promise.all(this.#desk.held().map((ticketId) => leave(ticketId).catch(() => {})));
  }

  /** Why nobody should count on this host; nothing while it is part of the cluster, with a store that answers and the devices it should have. */
  unready(): string | undefined {
    if (this.#stop.signal.aborted) return "the worker ends";
    if (this.#requestedDrain.rests()) return "the worker was asked to take no jobs";
    if (!this.#registered || !this.#abilities) return "the worker has not registered yet";
    if ((this.#presence?.silentMs() ?? Number.POSITIVE_INFINITY) >= silentMs) return "Redis does not answer";
    return this.#abilities.unreadyReason(this.#known.loadable());
  }

  registered(): boolean {
    return this.#registered;
  }

  /** Nothing of this incarnation counts any more. Its thread may be in mid-run, though, and a process that exits then crashes. */
  #giveUp(why: string): void {
    if (this.#ending !== undefined) return;
    this.#stop.abort();
    this.#presence?.stop();
    const end = async (): Promise<void> => {
      void this.#intake.pause();
      this.#runner.drain();
      await Promise.race([this.#runner.ended(), this.#parts.clock.sleep(lostRunMs)]);
      this.#parts.onLost(why, { quiet: this.#runnerEnded });
    };
    this.#ending = end();
  }

  /**
   * Stops claiming, finishes and commits what runs, gives tickets up, says goodbye. When that takes longer than `limitMs`, what runs is given
   * back. Answers whether the process is quiet: one that is not has a run on its thread, and crashes when it exits by itself.
   */
  async drain(limitMs: number): Promise<{ quiet: boolean }> {
    const { clock, log } = this.#parts;
    if (this.#ending === undefined && !this.#registered) return this.#leaveUnregistered();
    this.#ending ??= this.#drain();
    const inTime = await Promise.race([this.#ending.then(() => true), clock.sleep(limitMs).then(() => false)]);
    if (!inTime) await this.abandon();
    log(inTime ? "drained" : "drain_timed_out");
    return { quiet: inTime && this.#runnerEnded };
  }

  async #drain(): Promise<void> {
    this.#stop.abort();
    await this.#presence?.beatNow().catch(() => {});
    void this.#intake.pause();
    void this.#leaveTickets();
    this.#runner.drain();
    await this.#runner.ended();
    await this.#desk.settled();
    for (let flush = 0; flush < 2; flush++) await this.#tell().catch(() => {}); // the first may have been under way
    await this.#intake.close(2_000);
    await this.#forgetLoads();
    await this.#presence?.deregister();
  }

  /** Of a load that the process does not outlive because it was asked to end the model is not to blame, see runner/load-marks. */
  async #forgetLoads(): Promise<void> {
    const { facts, redis } = this.#parts;
    const tags = new Set([...this.#held.asked(), ...this.#desk.held().map(tagOf)]);
    await Promise.all([...tags].map((tag) => redis.hdel(keys.loadMarks(tag), facts.incarnation).catch(() => {}))); // then it counts as one of several
  }

  /** Nobody has given it a job, so nobody waits; its runner may be in the middle of a load. */
  async #leaveUnregistered(): Promise<{ quiet: boolean }> {
    const loads = this.#held.isLoading();
    this.#stop.abort();
    this.#runner.drain();
    this.#ending = Promise.race([this.#runner.ended().then(() => {}), this.#parts.clock.sleep(unregisteredMs)]);
    await this.#ending;
    const leave = Promise.all([this.#forgetLoads(), this.#presence?.deregister().catch(() => {})]);
    await Promise.race([leave, this.#parts.clock.sleep(farewellMs)]);
    return { quiet: this.#runnerEnded || !loads };
  }

  /** Gives back what runs, at no cost of an attempt, and says goodbye, because the process is about to be killed. Takes a second at most. */
  async abandon(): Promise<void> {
    this.#stop.abort();
    const { clock, facts, redis } = this.#parts;
    const farewell = async (): Promise<void> => {
      for (const claim of this.#runner.knownClaim().split(" ")) {
        const [tag, sequence] = claim.split("=");
        if (tag && sequence) await runScript(redis, "return-claim", keys.base(tag), [facts.incarnation, sequence]);
      }
      await Promise.all(this.#desk.held().map((ticketId) => this.#desk.release(tagOf(ticketId), ticketId, "unbegun")));
      await this.#forgetLoads();
      await this.#presence?.deregister();
    };
    await Promise.race([farewell().catch(() => {}), clock.sleep(farewellMs)]);
  }
}
