/**
 * One device's loop: look into a queue, run what it gives, commit, look again. Commit of one claim and the next look travel in one write.
 * ONNX Runtime blocks this thread during a run, so nothing here keeps time for anybody else.
 */

import { type CountedRun, type Ladder, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { LoadedModel } from "../runtime/loaded-model.ts";
import {
  type ClaimAnswer,
  type ClaimedJob,
  type Claims,
  type ClaimWish,
  type Commit,
  type Exchanged,
  isRefusal,
  type JobResult,
} from "./claims.ts";
import { type FollowedBatch, type Following, followedBatch, settledJobs, tracedOf } from "./followed-batch.ts";
import type { InputFrame, LargeValues } from "./large-values.ts";
import { splitLate } from "./late-jobs.ts";
import type { ClaimBoard, FromRunner, RunSample, TracedJob, Unready } from "./messages.ts";
import { type OpenCommit, OpenCommits } from "./open-commits.ts";
import { failedResult, handBack, runClaim } from "./run-claim.ts";
import { RunFigures, type RunSeen } from "./run-figures.ts";
import type { RunTallies } from "./run-tallies.ts";
import { type HeldTicket, TicketRotation } from "./ticket-rotation.ts";

/** An exchange that got no reply is repeated after this time. */
const retryExchangeMs = 200;
/** After runs shorter than this, looking at what has arrived would cost more than it tells. */
const deafMs = 1;
/** A queue whose claim script fails is left alone for this time. */
const refusedClaimMs = 1_000;
/** With this much waiting for room in the store, no more is run. */
const mostWaitingBytes = 256 * 1024 * 1024;

export interface ModelSource {
  /** The loaded model; throws SwitchyardError with the reason when it cannot be loaded. */
  ensure(version: ModelVersion): Promise<LoadedModel>;
  /** Whether `ensure` would answer at once. */
  isLoaded(version: ModelVersion): boolean;
  /** Keeps a loaded model in memory until the answered function is called; throws when it has gone meanwhile. */
  pin(version: ModelVersion): () => void;
}

export interface RunnerParts {
  claims: Pick<Claims, "exchange" | "giveBack" | "inputs">;
  largeValues: Pick<LargeValues, "fetched" | "stored">;
  models: ModelSource;
  clock: Pick<Clock, "monotonicMs" | "sleep" | "after" | "turn">;
  lingerMs: number;
  board: Pick<ClaimBoard, "write">;
  tell: (message: FromRunner) => void;
  tallies: Pick<RunTallies, "settled">;
  /** Whose jobs are told one by one; absent: nobody's. */
  following?: Following;
}

/** `sentMs`: when the claim was sent, by the local clock. */
type Batch = ClaimAnswer & { kind: "batch"; sentMs: number };
type Answer = Batch | Exclude<ClaimAnswer, { kind: "batch" }> | { kind: "refused" };

interface Run {
  results: JobResult[];
  runMs: number;
  items: number;
  /** That the model ran; 0 when nothing did. */
  jobs: number;
  /** Jobs that were over when the run began: there should be none. */
  startedLate: number;
  sample?: RunSample;
  /** Runs that succeeded. */
  counted: CountedRun[];
  /** When it began, by the store's clock; only where somebody follows its jobs. */
  beganMs?: number;
  /** Only where a trace of its jobs is recorded. */
  traced?: TracedJob | undefined;
}

export class Runner {
  readonly #parts: RunnerParts;
  readonly #rotation = new TicketRotation();
  readonly #commits = new OpenCommits();
  readonly #figures = new RunFigures();
  /** A run has kept this thread from hearing of tickets and wake-ups: they have a say in whose turn is next. */
  #wasDeaf = false;
  /** The store's clock minus the local one, never more than it is. */
  #storeOffsetMs = 0;
  /** Loads that tickets wait for, by tag; `over` until the ticket has looked at what came of it. */
  readonly #loads = new Map<string, "running" | "over">();
  #draining = false;
  #nudge: () => void = () => {};

  constructor(parts: RunnerParts) {
    this.#parts = parts;
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
      if (this.#draining && this.#commits.size === 0) return this.#giveUp();
      const nowMs = clock.monotonicMs();
      const due = this.#commits.due(nowMs);
      const ticket = this.#mayClaim() ? this.#rotation.next(nowMs, this.#isClosed) : undefined;
      if (!ticket && due.length === 0) {
        await this.#idle();
        continue;
      }
      // the usual case: one commit, and the next look in the same write; results never wait for another model's load
      const together = ticket && due.length === 1 && models.isLoaded(ticket.version) ? due[0] : undefined;
      if (!together) for (const open of due) await this.#exchange(open, undefined);
      if (ticket && !this.#draining) await this.#look(ticket, together);
    }
  }

  #mayClaim(): boolean {
    return !this.#draining && this.#commits.waitingBytes() < mostWaitingBytes;
  }

  readonly #isClosed = (tag: string): boolean => this.#commits.blocks(tag);

  /** One turn of a ticket: `open` is sent in the same write as the claim. */
  async #look(ticket: HeldTicket, open: OpenCommit | undefined): Promise<void> {
    if (this.#waitsForLoad(ticket)) return;
    const { model, unpin } = await this.#ensure(ticket);
    if (model instanceof SwitchyardError && ticket.unready === "leave") {
      if (open) await this.#exchange(open, undefined);
      return this.#end(ticket, true);
    }
    try {
      const claim = await this.#exchange(open, this.#draining ? undefined : this.#wish(ticket, model));
      if (claim) await this.#follow(ticket, claim, model);
    } finally {
      unpin();
    }
  }

  /** No other ticket waits for this one's load. When it is over, be it in failure, the ticket looks again. */
  #waitsForLoad(ticket: HeldTicket): boolean {
    const { models } = this.#parts;
    const { version } = ticket;
    const load = this.#loads.get(version.tag);
    if (load !== "running") this.#loads.delete(version.tag);
    if (load === "over" || models.isLoaded(version)) return false;
    if (ticket.mode === "closing") {
      // nothing waited in its queue: no other model must make room for a last look
      this.#end(ticket, true);
      return true;
    }
    this.#rotation.pause(ticket, Number.POSITIVE_INFINITY);
    if (load === "running") return true;
    this.#loads.set(version.tag, "running");
    const over = (): void => {
      if (this.#rotation.all().some((held) => held.version.tag === version.tag)) this.#loads.set(version.tag, "over");
      else this.#loads.delete(version.tag);
      this.wake(version.tag);
    };
    models.ensure(version).then(over, over);
    return true;
  }

  /** The model, pinned, or why there is none; then its jobs are claimed all the same and told so. */
  async #ensure(ticket: HeldTicket): Promise<{ model: LoadedModel | SwitchyardError; unpin: () => void }> {
    const { models } = this.#parts;
    for (;;) {
      let model: LoadedModel;
      try {
        model = await models.ensure(ticket.version);
      } catch (error) {
        const known = error instanceof SwitchyardError ? error : new SwitchyardError("model_not_ready", "the model could not be loaded");
        return { model: known, unpin: () => {} };
      }
      try {
        return { model, unpin: models.pin(ticket.version) };
      } catch {
        // another load took its room between the two calls: load it again
      }
    }
  }

  #wish(ticket: HeldTicket, model: LoadedModel | SwitchyardError): ClaimWish {
    const tag = ticket.version.tag;
    return {
      tag,
      ticketId: ticket.ticketId,
      maxItems: this.#figures.maxItems(tag, model instanceof SwitchyardError ? 64 : model.batching.maxItems),
      busyMs: this.#figures.busyMs(tag),
      lingerMs: ticket.mode === "closing" ? 0 : this.#parts.lingerMs,
      overheadMs: this.#figures.overheadMs(tag),
      delayMs: this.#draining ? 0 : (ticket.version.config.max_delay_ms ?? 0),
      parts: this.#figures.parts(tag),
      ladders: this.#figures.ladders(tag, this.#storeNowMs()),
    };
  }

  #storeNowMs(): number {
    return this.#parts.clock.monotonicMs() + this.#storeOffsetMs;
  }

  /**
   * Commits and looks in one write, and repeats what got no reply: both may be. Answers what the claim came to; nothing when there was
   * none, or when the host is to end and only the claim was left to repeat: what it may have taken goes back by the sweeper.
   */
  async #exchange(open: OpenCommit | undefined, look: ClaimWish | undefined): Promise<Answer | undefined> {
    const { claims, clock } = this.#parts;
    let [commit, wish] = [open?.commit, look];
    let claimed: Answer | undefined;
    let isRepeat = false;
    while (commit || wish) {
      const sentMs = clock.monotonicMs();
      if (open?.followed) open.followed.sentMs ??= this.#storeNowMs();
      const answer: Exchanged = await claims.exchange(commit, wish).catch(() => ({}));
      if (open && commit && (answer.committed || answer.commitRefused)) {
        this.#count(open, answer, { sent: commit, isRepeat });
        if (open.followed && answer.committed) this.#tellSettled(open.followed, commit, { committed: answer.committed, isRepeat });
        this.#settle(open, answer);
        commit = undefined;
      }
      if (wish && answer.claimRefused) {
        claimed = { kind: "refused" };
        this.#trouble(wish.tag, `a claim failed: ${answer.claimRefused.message}`);
      }
      // while the commit before it is unheard of, "uncommitted" says nothing
      if (answer.claim && !(answer.claim.kind === "uncommitted" && commit)) claimed = this.#timed(answer.claim, sentMs);
      if (claimed) wish = undefined;
      if (!commit && this.#draining) break;
      isRepeat = true;
      if (commit || wish) await clock.sleep(retryExchangeMs);
    }
    return claimed;
  }

  #timed(claim: ClaimAnswer, sentMs: number): Answer {
    if (claim.kind !== "batch" && claim.kind !== "defer") return claim;
    this.#storeOffsetMs = claim.nowMs - this.#parts.clock.monotonicMs();
    return claim.kind === "batch" ? { ...claim, sentMs } : claim;
  }

  #settle(open: OpenCommit, answer: Exchanged): void {
    const { commit, failures } = open;
    const nowMs = this.#parts.clock.monotonicMs();
    if (failures === 0) this.#figures.claimTook(commit.tag, { overheadMs: Math.max(0, nowMs - open.claimedMs - commit.runMs) });
    const { committed, commitRefused } = answer;
    if (committed?.[0] === "barred") this.#parts.tell({ kind: "barred" });
    const givenUp = commitRefused
      ? this.#commits.refused(open, nowMs, { isLastTry: this.#draining })
      : this.#commits.answered(open, committed ?? [], nowMs);
    // told as in hand it would never be given back where the store does not know of this commit: a replica took over that had not heard of it
    this.#parts.board.write(this.#commits.claims());
    if (this.#draining) this.#commits.hurry();
    if (commitRefused && failures <= 1)
      this.#trouble(commit.tag, `a commit of ${commit.results.length} jobs failed: ${commitRefused.message}`);
    if (open.noRoom && failures === 0)
      this.#trouble(commit.tag, "the store has no room for outputs; their jobs wait for it until their deadlines");
    if (givenUp.length > 0) this.#trouble(commit.tag, `could not be committed and was given up: ${givenUp.map(({ id }) => id).join(", ")}`);
  }

  /**
   * Runs and successes together, so that no report tells one without the other. `isRepeat`: it was sent before, and may have been done then; a
   * job that has ended is taken for one that it has ended.
   */
  #count({ cameMs, failures, queueMs, runs }: OpenCommit, { committed = [] }: Exchanged, how: { sent: Commit; isRepeat: boolean }): void {
    let succeeded = 0;
    for (const [at, { outcome }] of how.sent.results.entries()) {
      const answer = committed[at];
      if (outcome === "succeeded" && (answer === "committed" || (how.isRepeat && answer === "ended"))) succeeded += 1;
    }
    const localMs = this.#parts.clock.monotonicMs();
    const nowMs = localMs + this.#storeOffsetMs;
    const settled = { runs, isFirst: failures === 0, succeeded, queueMs, sinceClaimMs: localMs - cameMs, nowMs };
    this.#parts.tallies.settled(how.sent.tag, settled);
  }

  #tellSettled(followed: FollowedBatch, sent: Commit, how: { committed: readonly string[]; isRepeat: boolean }): void {
    const jobs = settledJobs(followed, sent, how);
    const settledMs = this.#storeNowMs();
    const { batchJobs, beganMs, claimedMs, ranMs, sentMs = settledMs } = followed;
    const { batchItems: items, runMs, tag } = sent;
    const times = { claimedMs, beganMs, ranMs, sentMs, settledMs, runMs };
    if (jobs.length > 0) this.#parts.tell({ kind: "settled", tag, ...times, batchJobs, items, jobs });
  }

  async #follow(ticket: HeldTicket, claim: Answer, model: LoadedModel | SwitchyardError): Promise<void> {
    switch (claim.kind) {
      case "batch":
        ticket.mode = "active";
        return this.#runBatch(ticket, claim, model);
      case "empty":
        return this.#rotation.linger(ticket, this.#parts.clock.monotonicMs() + this.#parts.lingerMs);
      case "defer":
        return this.#rotation.defer(ticket, claim.untilMs - this.#storeOffsetMs);
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
    try {
      const jobs = await claims.giveBack(tag, sequence);
      if (jobs > 0) this.#trouble(tag, `the store still had a claim that this host has no longer in hand: ${jobs} jobs of it went back`);
    } catch (error) {
      const isRefused = isRefusal(error as Error);
      if (isRefused) this.#trouble(tag, `a claim could not be given back: ${(error as Error).message}`);
      this.#rotation.pause(ticket, clock.monotonicMs() + (isRefused ? refusedClaimMs : retryExchangeMs));
    }
  }

  /** Runs a batch; its commit is then open. */
  async #runBatch(ticket: HeldTicket, claim: Batch, model: LoadedModel | SwitchyardError): Promise<void> {
    const { tag } = ticket.version;
    const { sequence, nowMs } = claim;
    const localMs = this.#parts.clock.monotonicMs();
    const deadlineOffsetMs = localMs - nowMs;
    this.#parts.board.write([{ tag, sequence }, ...this.#commits.claims()]);
    const { following } = this.#parts;
    const followed = following && followedBatch(following, claim);
    if (followed && following === "all") this.#parts.tell({ kind: "claimed", tag, jobs: [...followed.jobs.values()] });
    const run = model instanceof SwitchyardError ? unready(claim, model) : await this.#run(tag, claim, model, deadlineOffsetMs);
    if (followed) run.traced = tracedOf(claim.jobs);
    this.#wasDeaf = run.runMs >= deafMs;
    this.#rotation.used(tag, run.runMs);
    const queueMs = claim.jobs.map((job) => nowMs - job.createdMs);
    this.#report(tag, { queueMs, slackMs: claim.jobs.map((job) => job.deadlineMs - nowMs), run });
    const commit = { tag, ticketId: ticket.ticketId, runMs: run.runMs, batchItems: run.items, results: run.results };
    const { counted: runs } = run;
    if (followed) [followed.beganMs, followed.ranMs] = [run.beganMs ?? claim.nowMs, this.#storeNowMs()];
    const { jobs, sentMs: claimedMs } = claim;
    this.#commits.add(commit, { sequence, jobs, deadlineOffsetMs, claimedMs, cameMs: localMs, runs, queueMs, followed });
    if (this.#draining) this.#commits.hurry();
  }

  async #run(tag: string, claim: Batch, model: LoadedModel, deadlineOffsetMs: number): Promise<Run> {
    const frames = await this.#inputs(tag, claim, deadlineOffsetMs);
    if (!frames) return { results: claim.jobs.map(handBack), runMs: 0, items: 0, jobs: 0, startedLate: 0, counted: [] };
    const size = claim.jobs[0]?.size ?? 0;
    // never earlier than the store's clock: the claim ran after it was sent
    const nowMs = claim.nowMs + this.#parts.clock.monotonicMs() - claim.sentMs;
    const { inTime, late } = splitLate(claim.jobs, { nowMs, ladder: this.#figures.ladders(tag, nowMs).get(size) });
    const kept = late.length === 0 ? frames : frames.filter((_frame, at) => inTime.includes(claim.jobs[at] as ClaimedJob));
    const startMs = claim.nowMs + this.#parts.clock.monotonicMs() - claim.sentMs;
    let startedLate = 0;
    for (const { deadlineMs } of inTime) if (deadlineMs <= startMs) startedLate += 1;
    const beganMs = this.#parts.following && this.#storeNowMs();
    const { results, runMs, items, jobs, runs, counted, isFirst } = await runClaim(model, inTime, kept, claim.nowMs);
    const isSample = !isFirst && runs === 1 && results.every(({ outcome }) => outcome === "succeeded");
    const seen: RunSeen = { runMs, items, bytes: bytesOf(kept, results), size, atMs: claim.nowMs, isSample };
    this.#figures.ran(tag, seen);
    const stored = await this.#parts.largeValues.stored(results, (result, why) => unstored(result, why, claim));
    const all = late.length === 0 ? stored : [...stored, ...late.map(tooLate)];
    const run: Run = { results: all, runMs, items, jobs, startedLate, counted };
    if (beganMs !== undefined) run.beganMs = beganMs;
    if (isSample) run.sample = { size, items, runMs, atMs: claim.nowMs };
    return run;
  }

  /** Nothing when they could not be had until the last deadline, or before the host is to end. */
  async #inputs(tag: string, claim: Batch, deadlineOffsetMs: number): Promise<InputFrame[] | undefined> {
    const { claims, clock, largeValues } = this.#parts;
    const ids = claim.jobs.map(({ id }) => id);
    const again = (places: readonly number[]) =>
      claims.inputs(
        tag,
        places.map((at) => claim.jobs[at]!),
      );
    let came = claim.inputs;
    for (;;) {
      try {
        return await largeValues.fetched(ids, came ?? (await claims.inputs(tag, claim.jobs)), again);
      } catch {
        came = undefined; // they may stand elsewhere by then
        const untilMs = Math.max(...claim.jobs.map(({ deadlineMs }) => deadlineMs)) + deadlineOffsetMs;
        if (this.#draining || clock.monotonicMs() >= untilMs) return undefined;
        await clock.sleep(retryExchangeMs);
      }
    }
  }

  #report(tag: string, { queueMs, slackMs, run }: { queueMs: number[]; slackMs: number[]; run: Run }): void {
    const { results, runMs, items, jobs, startedLate, sample } = run;
    const outcomes: Record<string, number> = {};
    for (const result of results) outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1;
    const overheadMs = this.#figures.overheadMs(tag);
    const told: FromRunner = { kind: "ran", tag, jobs, items, runMs, queueMs, slackMs, outcomes, startedLate, overheadMs };
    if (sample) told.sample = sample;
    if (run.traced) told.traced = run.traced;
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
    const ends = [this.#commits.nextDueMs(), this.#mayClaim() ? this.#rotation.nextEndMs(this.#isClosed) : undefined];
    const endMs = Math.min(...ends.filter((end) => end !== undefined));
    await new Promise<void>((resolve) => {
      const cancel = endMs === Infinity ? () => {} : clock.after(Math.max(0, endMs - clock.monotonicMs()), resolve);
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

function unready(claim: Batch, why: SwitchyardError): Run {
  const error = { code: "model_not_ready", detail: why.message, retryable: true };
  return {
    results: claim.jobs.map((job) => failedResult(job, error, claim.nowMs)),
    runMs: 0,
    items: 0,
    jobs: 0,
    startedLate: 0,
    counted: [],
  };
}

function tooLate({ id, fence }: ClaimedJob): JobResult {
  return { id, fence, outcome: "late" };
}

function unstored(result: JobResult, why: SwitchyardError, claim: Batch): JobResult {
  const job = claim.jobs.find(({ id }) => id === result.id);
  if (!job) throw new Error(`job ${result.id} is not of this claim`);
  return failedResult(job, { code: why.code, detail: why.message, retryable: why.retryable }, claim.nowMs);
}

function bytesOf(frames: readonly InputFrame[], results: readonly JobResult[]): number {
  let sum = 0;
  for (const frame of frames) if (frame instanceof Uint8Array) sum += frame.length;
  for (const result of results) if (result.outcome === "succeeded") sum += result.outputs.length;
  return sum;
}
