/**
 * The moves of one queue in memory, with the answers of the Lua scripts: the same states, fences, tickets and repetitions. It is told the
 * time and never reads it, so that simulations can drive it. Nothing here waits; every call is one atomic step.
 */

import { isTerminal, type JobClass, type JobError, type JobState, type Ladder, sizeOf } from "@switchyard/protocol";
import type { EndedAttempt, JobRecord, NewJob, TombState } from "../ports/job-store.ts";
import { MemoryFlows, type MemoryJob, mostDropped } from "./memory-flows.ts";
import { heldMarginMs, MemoryTickets } from "./memory-tickets.ts";

const poisonHosts = 3;
const tombMs = 86_400_000;
const outputMarginMs = 5_000;
/** As in lua/lib-dead.lua. */
const deadMs = 86_400_000;
const mostDead = 1_000;
const mostDeadBytes = 64 * 1024 * 1024;
/** As in lua/lib-attempts.lua. */
const mostAttempts = 32;

export interface ClaimedJob {
  id: string;
  fence: number;
  deadlineMs: number;
  items: number;
  attempt: number;
  createdMs: number;
  class: JobClass;
  ttlMs: number;
}

export type ClaimAnswer =
  | { kind: "batch"; nowMs: number; jobs: ClaimedJob[] }
  /** Better to wait for company; the ticket stays, and is woken when a batch is full. */
  | { kind: "defer"; untilMs: number }
  | { kind: "empty" | "retired" | "not_yours" | "barred" | "stale_sequence" | "uncommitted" };

export interface ClaimStep {
  incarnation: string;
  /** Rises by one with every batch that this incarnation got from this queue. */
  sequence: number;
  ticketId: string;
  hostId: string;
  maxItems: number;
  busyMs: number;
  lingerMs: number;
  /** Run times by size of job, on this host; without one nothing is predicted. */
  ladders: ReadonlyMap<number, Ladder>;
  overheadMs: number;
  /** How long a job may wait for company; 0: not at all. */
  delayMs: number;
  /** Its host still runs the claim before it. */
  isAhead: boolean;
  /** A commit was made just before it, which may have let the ticket linger: as long as it does nothing has come since. */
  follows?: boolean;
}

export type AdmitAnswer = { answer: "admitted" | "existing" } | { answer: "refused"; ahead: number } | { answer: "full" };

export interface RunOutcome {
  id: string;
  fence: number;
  outcome: "succeeded" | "failed" | "retry" | "late" | "back";
  error?: JobError;
  retryDelayMs?: number;
}

interface Claim {
  sequence: number;
  /** Whether its host has committed some of it, and so had its reply. */
  told: boolean;
  fences: Map<string, number>;
  /** When its host is taken to be at its end. */
  freeAtMs: number;
  /** The claim before it, while some of its jobs are not committed. */
  earlier?: Pick<Claim, "sequence" | "fences"> | undefined;
}

const expiredError: JobError = { code: "expired", detail: "the deadline passed before the run ended", retryable: false };
const lateError: JobError = {
  code: "expired",
  detail: "a run could not have ended before the deadline, so none was started",
  retryable: false,
};

export class MemoryQueue {
  readonly jobs = new Map<string, MemoryJob>();
  readonly tombs = new Map<string, TombState & { goneMs: number }>();
  readonly outputs = new Map<string, { bytes: Uint8Array; goneMs: number }>();
  /** When each dead letter ended, oldest first. */
  readonly dead = new Map<string, number>();
  readonly waiting = new MemoryFlows();
  readonly later = new Map<string, number>();
  readonly claims = new Map<string, Claim>();
  readonly barred = new Set<string>();
  readonly tickets: MemoryTickets;
  readonly #ended: (job: MemoryJob) => void;

  /** `ended` hears of every outcome, `wake` of every lingering host that should look again. */
  constructor(tag: string, hear: { ended: (job: MemoryJob) => void; wake: (incarnation: string) => void }) {
    this.tickets = new MemoryTickets(tag, hear.wake);
    this.#ended = hear.ended;
  }

  /** Drops what has outlived its retention. */
  forget(nowMs: number): void {
    for (const held of [this.jobs, this.tombs, this.outputs]) {
      for (const [name, { goneMs }] of held) if (goneMs <= nowMs) held.delete(name);
    }
    this.#trimDead(nowMs);
  }

  /** A job that is refused leaves nothing behind. */
  admit(job: NewJob, nowMs: number, mostWaiting: number): AdmitAnswer {
    const before = this.jobs.get(job.id);
    if (before) {
      if (job.wait && !isTerminal(before.record.state)) before.awaited = true;
      return { answer: "existing" };
    }
    const { id, maxAttempts, model, version, tenant, ttlMs, held, tags, outputs, requestId, retryOf, durability, trace } = job;
    const record: JobRecord = {
      ...{ id, state: "queued", revision: 1, fence: 0, attempt: 0, maxAttempts, deaths: 0 },
      ...{ model, version, class: job.class, tenant, ttlMs, held },
      ...{ createdMs: nowMs, deadlineMs: nowMs + job.timeoutMs },
      ...(tags && { tags }),
      ...(outputs && { outputs }),
      ...(requestId !== undefined && { requestId }),
      ...(retryOf !== undefined && { retryOf }),
      ...(durability && { durability }),
      ...(trace && { trace }),
    };
    const { shapeClass, size, items, tenantWeight, inputs } = job;
    const facts = { orderMs: nowMs + job.latestStartMs, shapeClass, size, items, tenantWeight, inputs, awaited: job.wait };
    const entry: MemoryJob = { record, ...facts, failures: 0, incarnation: "", attempts: [], goneMs: Number.POSITIVE_INFINITY };
    this.waiting.come(entry, nowMs);
    if (this.waiting.waitingJobs >= mostWaiting) return { answer: "full" };
    const ahead = job.mostAhead === Number.POSITIVE_INFINITY ? 0 : this.waiting.ahead(entry, job, nowMs);
    if (ahead > job.mostAhead) return { answer: "refused", ahead };
    this.jobs.set(id, entry);
    this.waiting.admit(entry, nowMs);
    return { answer: "admitted" };
  }

  #finish(
    job: MemoryJob,
    state: JobState,
    nowMs: number,
    how: { error?: JobError | undefined; runMs?: number; batchItems?: number; buries?: boolean } = {},
  ): void {
    const { record } = job;
    record.state = state;
    record.revision++;
    record.finishedMs = nowMs;
    const [queueMs, totalMs] = [(record.startedMs ?? nowMs) - record.createdMs, nowMs - record.createdMs];
    record.timings = { queueMs, runMs: how.runMs ?? 0, totalMs, batchItems: how.batchItems ?? 0 };
    if (how.error) record.error = how.error;
    if (!how.buries) job.inputs = undefined;
    this.#retain(job);
    this.#ended(job);
  }

  /** A kept job that failed though another run might have succeeded becomes a dead letter. */
  #bury(job: MemoryJob, nowMs: number, how: { error: JobError | undefined; runMs?: number; batchItems?: number }): void {
    const { held, id } = job.record;
    this.#finish(job, "failed", nowMs, { ...how, buries: !held });
    if (held) return;
    job.goneMs = Math.max(job.goneMs, nowMs + deadMs);
    const tomb = this.tombs.get(id);
    if (tomb) tomb.goneMs = job.goneMs + tombMs;
    this.dead.set(id, nowMs);
    this.#trimDead(nowMs);
  }

  /** Takes a dead letter off the list, and lets its inputs go; answers whether it was there. */
  discard(id: string, nowMs: number): boolean {
    if (!this.dead.delete(id)) return false;
    const job = this.jobs.get(id);
    if (job) {
      job.inputs = undefined;
      job.goneMs = Math.min(job.goneMs, nowMs + job.record.ttlMs);
    }
    return true;
  }

  #trimDead(nowMs: number): void {
    if (this.dead.size === 0) return;
    const bytesOf = (id: string): number => sizeOf(this.jobs.get(id)?.inputs ?? []);
    let bytes = [...this.dead.keys()].reduce((sum, id) => sum + bytesOf(id), 0);
    for (const [id, endMs] of this.dead) {
      if (endMs + deadMs > nowMs && this.dead.size <= mostDead && bytes <= mostDeadBytes) return;
      bytes -= bytesOf(id);
      this.discard(id, nowMs);
    }
  }

  #retain(job: MemoryJob): void {
    const { record } = job;
    const endMs = record.finishedMs ?? 0;
    job.goneMs = endMs + record.ttlMs;
    if (record.held) return;
    this.tombs.set(record.id, { state: record.state, finishedMs: endMs, tenant: record.tenant, goneMs: job.goneMs + tombMs });
    const output = this.outputs.get(`${record.id}:${record.fence}`);
    if (output) output.goneMs = Math.max(output.goneMs, job.goneMs + outputMarginMs);
  }

  #endOutside(job: MemoryJob, state: JobState, nowMs: number, error: JobError): void {
    const { id } = job.record;
    if (job.record.state === "running") {
      const claim = this.claims.get(job.incarnation);
      claim?.fences.delete(id);
      claim?.earlier?.fences.delete(id);
    } else {
      this.later.delete(id);
      this.waiting.remove(job);
    }
    this.#finish(job, state, nowMs, { error });
  }

  /** The state that the record then has. */
  cancel(id: string, nowMs: number): JobState | undefined {
    const job = this.jobs.get(id);
    if (job && !isTerminal(job.record.state)) {
      this.#endOutside(job, "cancelled", nowMs, { code: "cancelled", detail: "the job was cancelled", retryable: false });
    }
    return job?.record.state;
  }

  /** Whether the job was open and its deadline has passed. */
  expire(id: string, nowMs: number): boolean {
    const job = this.jobs.get(id);
    if (!job || isTerminal(job.record.state) || job.record.deadlineMs > nowMs) return false;
    this.#endOutside(job, "expired", nowMs, expiredError);
    return true;
  }

  keep(id: string, ttlMs: number): void {
    const job = this.jobs.get(id);
    if (!job?.record.held) return;
    job.record.held = false;
    job.record.ttlMs = ttlMs;
    if (isTerminal(job.record.state)) this.#retain(job);
  }

  promote(nowMs: number): void {
    for (const [id, dueMs] of this.later) {
      if (dueMs > nowMs) continue;
      this.later.delete(id);
      const job = this.jobs.get(id);
      if (job?.record.state === "queued") this.waiting.add(job);
    }
  }

  take(ticketId: string, incarnation: string, nowMs: number, how: "occupied" | "" = ""): "held" | "gone" | "barred" {
    if (this.barred.has(incarnation)) return "barred";
    if (!this.tickets.all.has(ticketId)) return "gone";
    this.tickets.hold(ticketId, incarnation, nowMs, how);
    return "held";
  }

  renew(ticketId: string, incarnation: string, nowMs: number, how: "occupied" | "leaving" | "" = ""): "renewed" | "not_yours" | "barred" {
    if (this.barred.has(incarnation)) return "barred";
    if (!this.tickets.holds(ticketId, incarnation)) return "not_yours";
    this.tickets.renew(ticketId, nowMs, how);
    return "renewed";
  }

  release(ticketId: string, incarnation: string, matchingHosts: number, nowMs: number): string[] {
    if (!this.tickets.holds(ticketId, incarnation)) return [];
    this.tickets.all.delete(ticketId);
    return this.issue(nowMs, matchingHosts, 1, true);
  }

  /** `urgentMs`: until when a job that came just now would wait for company. */
  issue(nowMs: number, matchingHosts: number, batchItems: number, repair: boolean, urgentMs = Number.POSITIVE_INFINITY): string[] {
    const { waitingJobs: waiting, waitingItems } = this.waiting;
    return this.tickets.issue(nowMs, { waiting, waitingItems, matchingHosts, batchItems, repair, urgentMs });
  }

  claim(step: ClaimStep, nowMs: number): ClaimAnswer {
    const { incarnation, sequence, ticketId } = step;
    if (this.barred.has(incarnation)) return { kind: "barred" };
    if (!this.tickets.holds(ticketId, incarnation)) return { kind: "not_yours" };
    if (step.follows && this.tickets.lingers(ticketId, nowMs)) return { kind: "empty" };
    const last = this.claims.get(incarnation);
    if (last && last.sequence > sequence) return { kind: "stale_sequence" };
    let earlier = last?.earlier?.fences.size ? last.earlier : undefined;
    if (last?.sequence === sequence) {
      const jobs = [...last.fences.keys()].map((id) => this.#claimed(id));
      const left = jobs.filter(({ deadlineMs }) => deadlineMs > nowMs); // its host must not start one that is over by now
      if (left.length > 0) {
        // it was claimed for this host, which has not heard, or hears of it here and now
        if (this.tickets.all.get(ticketId)?.state === "held")
          this.tickets.set(ticketId, "busy", incarnation, Math.floor(nowMs + step.busyMs));
        return { kind: "batch", nowMs, jobs: left };
      }
      if (last.told) return { kind: "stale_sequence" };
      for (const { id } of jobs) this.expire(id, nowMs);
    } else if (last && last.fences.size > 0) {
      if (earlier) return { kind: "uncommitted" };
      earlier = last;
      // a job that may be what its host died of takes nothing down with it that waits behind it
      const [alone, ...others] = last.fences.keys();
      if (step.isAhead && others.length === 0 && this.jobs.get(alone!)!.record.deaths > 0) return { kind: "empty" };
    }
    if (earlier && !step.isAhead) return { kind: "uncommitted" };

    this.promote(nowMs);
    const { ladders, overheadMs, delayMs, maxItems } = step;
    const figuresOf = (size: number) => ({ nowMs, ladder: ladders.get(size), overheadMs, delayMs, maxItems });
    const { taken, dropped, deferUntilMs } = this.waiting.take(figuresOf, nowMs, { maxItems, isAhead: step.isAhead });
    for (const job of dropped) this.#finish(job, "expired", nowMs, { error: job.record.deadlineMs <= nowMs ? expiredError : lateError });
    if (taken.length > 0) {
      for (const job of taken) this.#start(job, step, nowMs);
      const fences = new Map(taken.map(({ record }) => [record.id, record.fence]));
      const freeAtMs = Math.floor(nowMs + step.busyMs);
      const before = earlier && { sequence: earlier.sequence, fences: earlier.fences };
      this.claims.set(incarnation, { sequence, told: false, fences, freeAtMs, earlier: before });
      this.tickets.set(ticketId, "busy", incarnation, freeAtMs);
      return { kind: "batch", nowMs, jobs: taken.map(({ record }) => this.#claimed(record.id)) };
    }
    if (step.isAhead) return { kind: "empty" };
    if (deferUntilMs !== undefined) {
      this.tickets.set(ticketId, "deferring", incarnation, deferUntilMs);
      return { kind: "defer", untilMs: deferUntilMs };
    }
    if (dropped.length >= mostDropped) return { kind: "defer", untilMs: nowMs }; // others may be left: another look is due
    if (step.lingerMs > 0) {
      this.tickets.set(ticketId, "lingering", incarnation, Math.floor(nowMs + step.lingerMs));
      return { kind: "empty" };
    }
    this.tickets.all.delete(ticketId);
    return { kind: "retired" };
  }

  #claimed(id: string): ClaimedJob {
    const { record, items } = this.jobs.get(id) as MemoryJob;
    const { fence, deadlineMs, attempt, createdMs, ttlMs } = record;
    return { id, fence, deadlineMs, items, attempt, createdMs, class: record.class, ttlMs };
  }

  #start(job: MemoryJob, { incarnation, hostId }: ClaimStep, nowMs: number): void {
    const { record } = job;
    Object.assign(record, { state: "running", revision: record.revision + 1, fence: record.fence + 1 });
    Object.assign(record, { attempt: job.failures + 1, startedMs: nowMs, hostId });
    job.incarnation = incarnation;
  }

  commit(
    incarnation: string,
    ticketId: string,
    run: { runMs: number; batchItems: number; outcomes: readonly RunOutcome[]; lingerMs?: number | undefined },
    nowMs: number,
  ): string[] {
    if (this.barred.has(incarnation)) return ["barred"];
    const claim = this.claims.get(incarnation);
    const earlier = claim?.earlier?.fences.size ? claim.earlier : undefined;
    const answers = run.outcomes.map((outcome) => {
      const job = this.jobs.get(outcome.id);
      const own = [claim, earlier].find((one) => one?.fences.get(outcome.id) === outcome.fence);
      if (!job || !own) return job && !isTerminal(job.record.state) ? "stale" : "ended";
      if (own === claim) claim.told = true;
      const answer = this.#settle(job, outcome, run, nowMs);
      if (answer !== "no_output") own.fences.delete(outcome.id);
      return answer;
    });
    if (this.tickets.holds(ticketId, incarnation) && this.tickets.all.get(ticketId)?.state !== "leaving") {
      // of two claims the other one has the device, or will have it at once
      if (earlier && claim && claim.fences.size + earlier.fences.size > 0)
        this.tickets.set(ticketId, "busy", incarnation, Math.max(nowMs + heldMarginMs, claim.freeAtMs));
      else if (run.lingerMs && [...this.jobs.values()].every(({ record }) => isTerminal(record.state)))
        this.tickets.set(ticketId, "lingering", incarnation, Math.floor(nowMs + run.lingerMs));
      else this.tickets.hold(ticketId, incarnation, nowMs);
    }
    return answers;
  }

  #settle(job: MemoryJob, outcome: RunOutcome, { runMs, batchItems }: { runMs: number; batchItems: number }, nowMs: number): string {
    const { record } = job;
    if (record.deadlineMs < nowMs) {
      this.#finish(job, "expired", nowMs, { error: expiredError, runMs, batchItems });
      return "expired";
    }
    if (outcome.outcome === "late") {
      this.#finish(job, "expired", nowMs, { error: lateError });
      return "committed";
    }
    if (outcome.outcome === "succeeded") {
      if (!this.outputs.has(`${record.id}:${record.fence}`)) return "no_output";
      this.#finish(job, "succeeded", nowMs, { runMs, batchItems });
      return "committed";
    }
    if (outcome.outcome === "back") {
      this.#requeue(job, nowMs, { end: "handed_back", runMs, batchItems });
      this.waiting.add(job);
      return "requeued";
    }
    job.failures++;
    const dueMs = nowMs + (outcome.retryDelayMs ?? 0);
    if (outcome.outcome === "retry" && job.failures < record.maxAttempts && dueMs < record.deadlineMs) {
      const { attempt } = record;
      this.#requeue(job, nowMs, { end: "failed", runMs, batchItems, ...(outcome.error && { error: outcome.error }) });
      record.attempt = attempt;
      this.later.set(record.id, dueMs);
      return "requeued";
    }
    const how = { error: outcome.error, runMs, batchItems };
    if (outcome.outcome === "retry") {
      this.#bury(job, nowMs, how);
      return "failed";
    }
    this.#finish(job, "failed", nowMs, how);
    return "committed";
  }

  #requeue(job: MemoryJob, nowMs: number, how: Pick<EndedAttempt, "end" | "runMs" | "batchItems" | "error">): void {
    const { record } = job;
    const { attempt, fence, hostId = "", startedMs = 0 } = record;
    job.attempts = [...job.attempts, { fence, attempt, hostId, startedMs, endedMs: nowMs, ...how }].slice(-mostAttempts);
    Object.assign(record, { state: "queued", revision: record.revision + 1, attempt: job.failures });
    delete record.hostId;
    job.incarnation = "";
  }

  /** Bars an incarnation and gives the jobs of its claim back; its tickets are gone. */
  takeBack(incarnation: string, nowMs: number): { returned: number; failed: number } {
    this.barred.add(incarnation);
    const claim = this.claims.get(incarnation);
    this.claims.delete(incarnation);
    this.tickets.dropHolder(incarnation);
    if (!claim) return { returned: 0, failed: 0 };
    const own = this.#return(claim, nowMs, true);
    const before = claim.earlier ? this.#return(claim.earlier, nowMs, true) : { returned: 0, failed: 0 };
    return { returned: own.returned + before.returned, failed: own.failed + before.failed };
  }

  /** Gives back a claim whose reply its host never had. */
  returnClaim(incarnation: string, sequence: number, nowMs: number): number {
    const claim = this.claims.get(incarnation);
    if (!claim) return 0;
    if (claim.sequence === sequence) {
      this.claims.set(incarnation, { sequence: sequence + 1, told: false, fences: new Map(), freeAtMs: nowMs, earlier: claim.earlier });
      return this.#return(claim, nowMs, false).returned;
    }
    const { earlier } = claim;
    if (earlier?.sequence !== sequence) return 0;
    claim.earlier = undefined;
    return this.#return(earlier, nowMs, false).returned;
  }

  #return(claim: Pick<Claim, "fences">, nowMs: number, died: boolean): { returned: number; failed: number } {
    const count = { returned: 0, failed: 0 };
    for (const [id, fence] of claim.fences) {
      const job = this.jobs.get(id);
      if (job?.record.state !== "running" || job.record.fence !== fence) continue;
      if (died) {
        job.failures++;
        job.record.deaths++;
      }
      const error = deathError(job);
      if (job.record.deadlineMs <= nowMs) this.#finish(job, "expired", nowMs, { error: expiredError });
      else if (error) {
        count.failed++;
        this.#bury(job, nowMs, { error });
      } else {
        count.returned++;
        this.#requeue(job, nowMs, { end: died ? "host_lost" : "claim_lost", runMs: 0, batchItems: 0 });
        this.waiting.add(job);
      }
    }
    return count;
  }
}

function deathError({ failures, record: { deaths, maxAttempts } }: MemoryJob): JobError | undefined {
  if (deaths >= poisonHosts) return { code: "poison", detail: `${deaths} hosts died while running this job`, retryable: false };
  if (failures < maxAttempts) return undefined;
  return { code: "run_failed", detail: "the host died while it had the job in hand, and no attempts are left", retryable: true };
}
