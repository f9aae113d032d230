/**
 * One device's loop: look into a queue, run what it gives, commit, look again. Commit of one claim and the next look travel in one write.
 * Most models run on this thread, which ONNX Runtime blocks meanwhile: nothing here keeps time for anybody else. Others run beside it; then the next
 * batch is claimed shortly before the run's end, made ready, and begins at once when the device is free.
 */

import { type Ladder, type ModelVersion, type RanTime, readInputReference, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { LoadedModel } from "../runtime/loaded-model.ts";
import { type Batch, BatchRuns, handedBack, type ReadyBatch, type Run, retryExchangeMs, unready } from "./batch-runs.ts";
import { type Claims, type ClaimWish, type Handed, isRefusal } from "./claims.ts";
import { DeviceTimes } from "./device-times.ts";
import { type Answer, Exchanges } from "./exchanges.ts";
import { type FollowedBatch, type Following, followedBatch, tracedOf } from "./followed-batch.ts";
import type { LargeValues } from "./large-values.ts";
import type { ClaimBoard, FromRunner, TracedJob, Unready } from "./messages.ts";
import { type OpenCommit, OpenCommits } from "./open-commits.ts";
import { RunFigures } from "./run-figures.ts";
import type { RunTallies } from "./run-tallies.ts";
import { StoreClock } from "./store-clock.ts";
import { type ModelSource, type PinnedModel, TicketModels } from "./ticket-models.ts";
import { type HeldTicket, TicketRotation } from "./ticket-rotation.ts";

/** After runs shorter than this, looking at what has arrived would cost more than it tells. */
const deafMs = 1;
/** A queue whose claim script fails is left alone for this time. */
const refusedClaimMs = 1_000;
/** Jobs of models whose runs may take longer are not handed over: a look costs little beside them, and they do not wait long for a host that has died. */
const mostHandedRunMs = 10;
/** What was handed over so long ago may go back soon (lua/lib-handing.lua gives it twice that, and its run): the store is asked. */
const mostHandedAgeMs = 30;
/** So long a batch that was claimed ahead waits at least for a run that is not over when it should be. */
const leastPatienceMs = 250;
/** With this much waiting for room in the store, no more is run. */
const mostWaitingBytes = 256 * 1024 * 1024;

export interface RunnerParts {
  claims: Pick<Claims, "accepts" | "exchange" | "giveBack" | "giveBackUnheard" | "inputs">;
  largeValues: Pick<LargeValues, "fetched" | "stored">;
  models: ModelSource;
  clock: Pick<Clock, "monotonicMs" | "nowMs" | "sleep" | "after" | "turn">;
  lingerMs: number;
  board: Pick<ClaimBoard, "write">;
  tell: (message: FromRunner) => void;
  tallies: Pick<RunTallies, "settled">;
  /** Whose jobs are told one by one; absent: nobody's. */
  following?: Following;
}

/** A batch from its claim until its commit is open. */
interface InHand {
  readonly ticket: HeldTicket;
  readonly claim: Batch;
  /** When its answer came, by the local clock. */
  readonly cameMs: number;
  readonly deadlineOffsetMs: number;
  readonly followed: FollowedBatch | undefined;
}

/** One whose model runs beside this thread. */
interface Beside extends InHand {
  readonly unpin: () => void;
  ready?: ReadyBatch;
  readyMs: number;
  /** How long it waited, ready, for the run before it. */
  waitedMs: number;
  /** While it runs: when the run should be over, when the next batch is to be claimed, and until when that one waits for it, by the local clock. */
  endMs: number;
  aheadMs: number;
  patientUntilMs: number;
}

/** What is told of a batch. */
interface Seen {
  queueMs: number[];
  slackMs: number[];
  run: Run;
  time: RanTime | undefined;
  traced: TracedJob | undefined;
}

/** It may be a job that a host died of: then nothing else may be in hand. */
function mayBeDeadly({ jobs }: Batch): boolean {
  return jobs.length === 1 && jobs[0]!.attempt > 1;
}

export class Runner {
  readonly #parts: RunnerParts;
  readonly #rotation = new TicketRotation();
  readonly #commits = new OpenCommits();
  readonly #figures = new RunFigures();
  readonly #storeClock: StoreClock;
  readonly #exchanges: Exchanges;
  readonly #runs: BatchRuns;
  readonly #models: TicketModels;
  readonly #times = new DeviceTimes();
  readonly #inHand = new Set<InHand>();
  /** The batch that has the device, of a model that runs beside this thread, and the one claimed ahead of its end. */
  #running: Beside | undefined;
  #next: Beside | undefined;
  /** A run has kept this thread from hearing of tickets and wake-ups: they have a say in whose turn is next. */
  #wasDeaf = false;
  #draining = false;
  #nudge: () => void = () => {};

  constructor(parts: RunnerParts) {
    this.#parts = parts;
    this.#models = new TicketModels(parts.models);
    this.#storeClock = new StoreClock(parts.clock);
    const isEnding = (): boolean => this.#draining;
    this.#runs = new BatchRuns({ ...parts, figures: this.#figures, isEnding });
    const settled = (): void => this.#writeBoard();
    this.#exchanges = new Exchanges({
      ...parts,
      commits: this.#commits,
      figures: this.#figures,
      storeClock: this.#storeClock,
      isEnding,
      settled,
    });
  }

  /** A model came into memory: what its warm-up took is the first thing known of its runs. */
  loaded(tag: string, model: { warmUp: Ladder; maxItems: number }): void {
    this.#figures.loaded(tag, model);
  }

  serve(ticketId: string, version: ModelVersion, unready: Unready): void {
    if (this.#draining) {
      this.#parts.tell({ kind: "ended", ticketId, release: true });
      return;
    }
    this.#rotation.add(ticketId, version, unready);
    this.#nudge();
  }

  wake(tag: string): void {
    this.#rotation.wake(tag);
    this.#nudge();
  }

  /** A job was claimed for this host while it lingered. Where it does not linger any more, or only now hears of it, its next look finds that claim. */
  handed(handed: Handed): void {
    const { claims, models } = this.#parts;
    const { batch, tag, ticketId } = handed;
    const ticket = this.#draining || this.#inHand.size > 0 ? undefined : this.#rotation.lingersAlone(ticketId);
    const isNew = this.#storeClock.latestNowMs() < batch.nowMs + mostHandedAgeMs;
    // by the look its ticket is busy for as long as its run may take: it does not go back meanwhile
    const isShort = batch.jobs.every((job) => (this.#figures.usualMs(tag, job) ?? Number.POSITIVE_INFINITY) <= mostHandedRunMs);
    const isHere = batch.inputs?.every((input) => input !== null && readInputReference(input) === undefined) ?? false;
    if (!isNew) this.#figures.wasLate(tag);
    if (ticket && isNew && isShort && isHere && models.isLoaded(ticket.version) && claims.accepts(handed)) ticket.handed = batch;
    this.wake(tag);
  }

  /** By the store's clock, from when on the host's outputs are to be kept. */
  keepingFromMs(): number {
    return this.#storeClock.keepingFromMs();
  }

  drain(): void {
    this.#draining = true;
    this.#commits.hurry();
    this.#nudge();
  }

  /** Runs until drained. */
  async run(): Promise<void> {
    const { clock, models } = this.#parts;
    for (;;) {
      if (this.#wasDeaf) {
        this.#wasDeaf = false;
        await clock.turn();
      }
      this.#startNext();
      const handedTo = this.#rotation.withHanded();
      if (handedTo) {
        await this.#lookAtHanded(handedTo);
        continue;
      }
      if (this.#draining && this.#commits.size === 0 && this.#inHand.size === 0) return this.#giveUp();
      const nowMs = clock.monotonicMs();
      const due = this.#commits.due(nowMs);
      const ticket = this.#mayClaim() ? this.#turn(nowMs) : undefined;
      if (!ticket && due.length === 0) {
        await this.#idle();
        continue;
      }
      // the usual case: one commit, and the next look in the same write; results never wait for another model's load
      const together = ticket && due.length === 1 && models.isLoaded(ticket.version) ? due[0] : undefined;
      if (!together) for (const open of due) await this.#exchanges.send(open, undefined);
      if (ticket && !this.#draining) await this.#look(ticket, together);
    }
  }

  #mayClaim(): boolean {
    return !this.#draining && this.#commits.waitingBytes() < mostWaitingBytes;
  }

  /** The ticket that should look into its queue now. While a run has the device one batch is claimed ahead, shortly before its end, and of a model that does not need this thread. */
  #turn(nowMs: number): HeldTicket | undefined {
    const running = this.#running;
    if (this.#inHand.size === 0) return this.#rotation.next(nowMs, this.#isClosed);
    if (!running || this.#inHand.size > 1 || nowMs < running.aheadMs || mayBeDeadly(running.claim)) return undefined;
    const ticket = this.#rotation.upcoming(nowMs, this.#isClosed);
    if (!ticket || !this.#parts.models.runsBeside(ticket.version)) return undefined;
    running.aheadMs = Number.POSITIVE_INFINITY;
    this.#rotation.take(ticket);
    return ticket;
  }

  readonly #isClosed = (tag: string): boolean => this.#commits.blocks(tag);

  /** One turn of a ticket: `open` is sent in the same write as the claim. */
  async #look(ticket: HeldTicket, open: OpenCommit | undefined): Promise<void> {
    if (this.#waitsForLoad(ticket)) return;
    const { model, unpin } = await this.#models.pinned(ticket.version);
    if (model instanceof SwitchyardError && ticket.unready === "leave") {
      if (open) await this.#exchanges.send(open, undefined);
      return this.#end(ticket, true);
    }
    const wish = this.#draining ? undefined : this.#wish(ticket, model, open);
    const claim = await this.#exchanges.send(open, wish);
    // a claim ahead that finds nothing leaves its ticket as it is
    if (claim && !(claim.kind === "empty" && wish?.isAhead)) await this.#begin(ticket, claim, { model, unpin });
    else unpin();
  }

  async #begin(ticket: HeldTicket, claim: Answer, how: PinnedModel): Promise<void> {
    const { model, unpin } = how;
    if (claim.kind === "batch" && !(model instanceof SwitchyardError) && model.isBeside)
      return this.#takeBeside(ticket, claim, { model, unpin });
    try {
      await this.#follow(ticket, claim, model);
    } finally {
      unpin();
    }
  }

  /** As a look that has found it. */
  async #lookAtHanded(ticket: HeldTicket): Promise<void> {
    const batch = ticket.handed!;
    // as if the claim had been sent when it was made at the latest
    const claim: Batch = { ...batch, sentMs: this.#storeClock.earliestLocalMs(batch.nowMs) };
    ticket.handed = undefined;
    this.#rotation.take(ticket);
    if (this.#draining || !this.#parts.models.isLoaded(ticket.version))
      return this.#finish(this.#take(ticket, claim), handedBack(claim), 0);
    await this.#begin(ticket, claim, await this.#models.pinned(ticket.version));
  }

  /** No other ticket waits for this one's load. When it is over, be it in failure, the ticket looks again. */
  #waitsForLoad(ticket: HeldTicket): boolean {
    const { version } = ticket;
    if (this.#models.mayLookOnce(version)) return false;
    if (ticket.mode === "closing") {
      // nothing waited in its queue: no other model must make room for a last look
      this.#end(ticket, true);
      return true;
    }
    this.#rotation.pause(ticket, Number.POSITIVE_INFINITY);
    this.#models.load(version, {
      isAwaited: () => this.#rotation.all().some((held) => held.version.tag === version.tag),
      over: () => this.wake(version.tag),
    });
    return true;
  }

  /** `open`: the commit that goes before it in the same write. */
  #wish(ticket: HeldTicket, model: LoadedModel | SwitchyardError, open: OpenCommit | undefined): ClaimWish {
    const tag = ticket.version.tag;
    const running = this.#running;
    const isBeside = !(model instanceof SwitchyardError) && model.isBeside;
    // what is left of the run at hand when the batch is ready
    const leftMs = running ? Math.max(0, running.endMs - this.#parts.clock.monotonicMs() - this.#figures.readyMs(tag)) : 0;
    return {
      tag,
      ticketId: ticket.ticketId,
      maxItems: this.#figures.maxItems(tag, model instanceof SwitchyardError ? 64 : model.batching.maxItems, { isBeside }),
      busyMs: leftMs + this.#figures.busyMs(tag),
      lingerMs: ticket.mode === "closing" ? 0 : this.#parts.lingerMs,
      overheadMs: leftMs + this.#figures.overheadMs(tag),
      delayMs: this.#draining ? 0 : (ticket.version.config.max_delay_ms ?? 0),
      parts: this.#figures.parts(tag),
      // the run at hand may have ended since it was this ticket's turn, and its commit not have gone
      isAhead: this.#inHand.size > 0 || this.#commits.hasOthers(tag, open),
      ladders: this.#figures.ladders(tag, this.#storeClock.nowMs()),
      handedWithinMs: this.#handedWithinMs(ticket, model),
    };
  }

  /** While this ticket lingers a job may be claimed for this host unasked, if nothing else could have the device then, and it would be over soon. */
  #handedWithinMs({ version }: HeldTicket, model: LoadedModel | SwitchyardError): number | undefined {
    const longestMs = this.#figures.longestMs(version.tag);
    if (model instanceof SwitchyardError || longestMs === undefined || longestMs > mostHandedRunMs) return undefined;
    if (this.#rotation.size > 1 || (version.config.max_delay_ms ?? 0) > 0) return undefined;
    if (!this.#figures.comesAlone(version.tag)) return undefined;
    return longestMs + this.#figures.overheadMs(version.tag);
  }

  async #follow(ticket: HeldTicket, claim: Answer, model: LoadedModel | SwitchyardError): Promise<void> {
    switch (claim.kind) {
      case "batch":
        return this.#runHere(ticket, claim, model);
      case "empty":
        return this.#rotation.linger(ticket, this.#parts.clock.monotonicMs() + this.#parts.lingerMs);
      case "defer":
        return this.#rotation.defer(ticket, this.#storeClock.localMs(claim.untilMs));
      case "refused":
        return this.#rotation.pause(ticket, this.#parts.clock.monotonicMs() + refusedClaimMs);
      case "barred":
        this.#end(ticket, false);
        return this.#parts.tell({ kind: "barred" });
      case "uncommitted":
        return this.#giveBack(ticket, claim.sequence);
      case "stale_sequence":
        return this.#end(ticket, true);
      case "retired":
      case "not_yours":
        return this.#end(ticket, false);
    }
  }

  /**
   * Either the commit of that claim waits here, and the ticket with it. Or there is none: a store that lost its last moments (power, a
   * replica in the place of its master) has forgotten how the claim ended. Nobody runs its jobs, and until they have gone back this host gets no others.
   */
  async #giveBack(ticket: HeldTicket, sequence: number): Promise<void> {
    const { claims, clock } = this.#parts;
    const { tag } = ticket.version;
    if (this.#isClosed(tag)) return;
    const isIt = (claim: { tag: string; sequence: number }): boolean => claim.tag === tag && claim.sequence === sequence;
    if (this.#commits.claims().some(isIt)) return; // it is sent before the next look
    if (this.#claims().some(isIt)) return this.#rotation.pause(ticket, clock.monotonicMs() + retryExchangeMs);
    try {
      const jobs = await claims.giveBack(tag, sequence);
      if (jobs > 0) this.#trouble(tag, `the store still had a claim that this host has no longer in hand: ${jobs} jobs of it went back`);
    } catch (error) {
      const isRefused = isRefusal(error as Error);
      if (isRefused) this.#trouble(tag, `a claim could not be given back: ${(error as Error).message}`);
      this.#rotation.pause(ticket, clock.monotonicMs() + (isRefused ? refusedClaimMs : retryExchangeMs));
    }
  }

  /** Runs a batch on this thread, if there is a model; its commit is then open. */
  async #runHere(ticket: HeldTicket, claim: Batch, model: LoadedModel | SwitchyardError): Promise<void> {
    const { tag } = ticket.version;
    const hand = this.#take(ticket, claim);
    const { deadlineOffsetMs } = hand;
    const run =
      model instanceof SwitchyardError
        ? unready(claim, model)
        : await this.#runs.run(tag, await this.#runs.ready(tag, claim, { model, deadlineOffsetMs }));
    this.#wasDeaf = run.runMs >= deafMs;
    this.#rotation.used(ticket.version, run.runMs);
    this.#finish(hand, run, 0);
  }

  #take(ticket: HeldTicket, claim: Batch): InHand {
    const { clock, following, tell } = this.#parts;
    const { tag } = ticket.version;
    ticket.mode = "active";
    const cameMs = clock.monotonicMs();
    const followed = following && followedBatch(following, claim);
    const hand: InHand = { ticket, claim, cameMs, deadlineOffsetMs: cameMs - claim.nowMs, followed };
    this.#inHand.add(hand);
    this.#writeBoard();
    if (followed && following === "all") tell({ kind: "claimed", tag, jobs: [...followed.jobs.values()] });
    return hand;
  }

  /** Makes a batch ready while the one before it may have the device; this thread goes on. */
  #takeBeside(ticket: HeldTicket, claim: Batch, { model, unpin }: PinnedModel & { model: LoadedModel }): void {
    const { clock } = this.#parts;
    const { tag } = ticket.version;
    const never = Number.POSITIVE_INFINITY;
    const times = { readyMs: 0, waitedMs: 0, endMs: 0, aheadMs: never, patientUntilMs: never };
    const hand: Beside = Object.assign(this.#take(ticket, claim), { unpin, ...times });
    this.#next = hand;
    const ready = this.#runs.ready(tag, claim, { model, deadlineOffsetMs: hand.deadlineOffsetMs });
    void ready.then((batch) => {
      hand.ready = batch;
      hand.readyMs = clock.monotonicMs();
      this.#figures.readyTook(tag, hand.readyMs - claim.sentMs);
      this.#startNext();
      this.#nudge();
    });
  }

  /**
   * Gives the device to the batch that is ready, when nobody else has it. A host that is to end hands it back, and so does one whose run takes far longer than
   * was expected: others may run it.
   */
  #startNext(): void {
    const hand = this.#next;
    const running = this.#running;
    if (!hand?.ready) return;
    const nowMs = this.#parts.clock.monotonicMs();
    if (this.#draining || (running && nowMs >= running.patientUntilMs)) {
      this.#next = undefined;
      hand.waitedMs = nowMs - hand.readyMs;
      this.#over(hand, handedBack(hand.claim));
      // to the store a ticket of another queue than the one that runs could act: another host gets it
      if (!this.#draining && hand.ticket.version.tag !== running?.ticket.version.tag) this.#end(hand.ticket, true);
    } else if (!running) {
      this.#next = undefined;
      void this.#runBeside(hand, hand.ready);
    }
  }

  async #runBeside(hand: Beside, batch: ReadyBatch): Promise<void> {
    const { clock } = this.#parts;
    const { tag } = hand.ticket.version;
    const items = hand.claim.jobs.reduce((sum, job) => sum + job.items, 0);
    const usualMs = this.#figures.usualMs(tag, { items, size: hand.claim.jobs[0]?.size ?? 0 });
    const nowMs = clock.monotonicMs();
    hand.waitedMs = nowMs - hand.readyMs;
    hand.endMs = nowMs + (usualMs ?? 0);
    hand.patientUntilMs = hand.endMs + Math.max(usualMs ?? 0, leastPatienceMs);
    hand.aheadMs = nowMs + this.#figures.aheadAfterMs(tag, usualMs);
    this.#running = hand;
    // whose turn is next is asked before it is known how long this one took
    this.#rotation.used(hand.ticket.version, usualMs ?? 0);
    const freed = (): void => {
      if (this.#running !== hand) return;
      this.#running = undefined;
      this.#startNext();
    };
    const run = await this.#runs.run(tag, batch, freed);
    freed();
    this.#rotation.corrected(hand.ticket.version, run.runMs - (usualMs ?? 0));
    this.#over(hand, run);
  }

  #over(hand: Beside, run: Run): void {
    hand.unpin();
    this.#finish(hand, run, hand.waitedMs);
    this.#nudge();
  }

  /** The commit of a batch is open. `waitedMs`: of the time since its claim, what it waited for the run before it. */
  #finish(hand: InHand, run: Run, waitedMs: number): void {
    const { cameMs, claim, deadlineOffsetMs, followed, ticket } = hand;
    const { jobs, nowMs, sequence, sentMs } = claim;
    const { tag } = ticket.version;
    const queueMs = jobs.map((job) => nowMs - job.createdMs);
    const slackMs = jobs.map((job) => job.deadlineMs - nowMs);
    this.#report(tag, { queueMs, slackMs, run, time: this.#timeOf(hand, run), traced: followed && tracedOf(jobs) });
    const commit = { tag, ticketId: ticket.ticketId, runMs: run.runMs, batchItems: run.items, results: run.results };
    const { beganMs, counted: runs } = run;
    if (followed) {
      followed.beganMs = beganMs === undefined ? nowMs : this.#storeClock.storeMs(beganMs);
      followed.ranMs = this.#storeClock.nowMs();
    }
    this.#inHand.delete(hand);
    this.#commits.add(commit, { sequence, jobs, deadlineOffsetMs, claimedMs: sentMs + waitedMs, cameMs, runs, queueMs, followed });
    if (this.#draining) this.#commits.hurry();
  }

  /** What the run had of the device, and others while its jobs waited; nothing where no model ran. */
  #timeOf(hand: InHand, { beganMs, jobs: ran, runMs }: Run): RanTime | undefined {
    if (ran === 0 || beganMs === undefined) return undefined;
    const { config, model, tag, version } = hand.ticket.version;
    const { jobs, nowMs } = hand.claim;
    // since when a job waits that was claimed before, nobody knows
    const queueMs = Math.max(0, ...jobs.filter(({ fence }) => fence === 1).map((job) => nowMs - job.createdMs));
    // what jobs wait for company is nobody else's doing
    const waitedMs = Math.max(0, queueMs + beganMs - hand.cameMs - (config.max_delay_ms ?? 0));
    const [first] = this.#inHand; // an earlier one may have run already, and put its outputs away
    const run = { beganMs, endMs: beganMs + runMs, waitedMs, isInOrder: first === hand };
    const part = this.#times.ran({ tag, model: `${model}@${version}` }, run);
    return { atMs: this.#storeClock.storeMs(beganMs + runMs), runs: 1, ownMs: runMs, ...part };
  }

  /** Those in hand, and those whose commits are open. */
  #claims(): { tag: string; sequence: number }[] {
    const claims = this.#commits.claims();
    for (const { claim, ticket } of [...this.#inHand].reverse()) claims.unshift({ tag: ticket.version.tag, sequence: claim.sequence });
    return claims;
  }

  #writeBoard(): void {
    this.#parts.board.write(this.#claims());
  }

  #report(tag: string, { queueMs, slackMs, run, time, traced }: Seen): void {
    const { results, runMs, items, jobs, startedLate, sample } = run;
    const outcomes: Record<string, number> = {};
    for (const result of results) outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1;
    const overheadMs = this.#figures.overheadMs(tag);
    const told: FromRunner = { kind: "ran", tag, jobs, items, runMs, queueMs, slackMs, outcomes, startedLate, overheadMs };
    if (sample) told.sample = sample;
    if (time) told.time = time;
    if (traced) told.traced = traced;
    this.#parts.tell(told);
  }

  #trouble(tag: string, message: string): void {
    this.#parts.tell({ kind: "trouble", tag, message });
  }

  #end(ticket: HeldTicket, release: boolean): void {
    this.#rotation.end(ticket.ticketId);
    this.#parts.tell({ kind: "ended", ticketId: ticket.ticketId, release });
  }

  /** Sleeps until a ticket, a wake-up, the end of a linger, or a commit that is due again. */
  async #idle(): Promise<void> {
    const { clock } = this.#parts;
    const nowMs = clock.monotonicMs();
    const ends = [this.#commits.nextDueMs()];
    if (this.#mayClaim()) {
      if (this.#inHand.size === 0) ends.push(this.#rotation.nextEndMs(this.#isClosed));
      else if (this.#running && this.#running.aheadMs > nowMs) ends.push(this.#running.aheadMs);
    }
    if (this.#running && this.#next?.ready) ends.push(this.#running.patientUntilMs);
    const endMs = Math.min(...ends.filter((end) => end !== undefined));
    await new Promise<void>((resolve) => {
      const cancel = endMs === Infinity ? () => {} : clock.after(Math.max(0, endMs - nowMs), resolve);
      this.#nudge = () => {
        cancel();
        resolve();
      };
    });
    this.#nudge = () => {};
  }

  #giveUp(): void {
    for (const ticket of this.#rotation.all()) this.#end(ticket, true);
    this.#parts.tell({ kind: "drained" });
  }
}
