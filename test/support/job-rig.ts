/**
 * Drives one queue of a job store from both ends: as a coordinator through the port, and as hosts that take tickets, claim and commit.
 * The Redis store and the memory store stand behind the same few words, so that one suite of sentences can be run against either.
 */

import { randomBytes } from "node:crypto";
import type { JobClass, JobError, JobState, Ladder } from "@switchyard/protocol";
import { newIncarnation, newJobId, queueTag } from "@switchyard/protocol/redis";
import type { AdmitQueue, Admitted, JobRecord, JobStore, NewJob, TombState } from "../../coordinator/src/ports/job-store.ts";
import type { TicketQueue } from "../../coordinator/src/ports/ticket-queue.ts";

export interface HostJob {
  id: string;
  fence: number;
  deadlineMs: number;
  items: number;
  attempt: number;
  createdMs: number;
  class: JobClass;
  ttlMs: number;
}

export type HostClaim =
  | { kind: "batch"; nowMs: number; jobs: HostJob[] }
  | { kind: "defer"; untilMs: number }
  | { kind: "empty" | "retired" | "not_yours" | "barred" | "stale_sequence" | "uncommitted" };

export interface HostOutcome {
  id: string;
  fence: number;
  outcome: "succeeded" | "failed" | "retry" | "late" | "back";
  outputs?: Uint8Array;
  error?: JobError;
  retryDelayMs?: number;
}

export interface ClaimStep {
  tag: string;
  incarnation: string;
  sequence: number;
  ticketId: string;
  hostId: string;
  maxItems: number;
  busyMs: number;
  lingerMs: number;
  ladders: ReadonlyMap<number, Ladder>;
  overheadMs: number;
  delayMs: number;
  isAhead: boolean;
  /** A commit that may have let the ticket linger was made just before. */
  follows?: boolean;
}

/** What a claim may wish for; the rest is as a host without estimates asks. */
export type ClaimWishes = Partial<Omit<ClaimStep, "tag" | "incarnation" | "ticketId" | "hostId">>;

export interface CommitStep {
  tag: string;
  incarnation: string;
  ticketId: string;
  runMs: number;
  outcomes: readonly HostOutcome[];
  /** The ticket lingers so long where no job is open afterwards; without it, or with 0, it is held. */
  lingerMs?: number;
  /** What stands for the host's next claim meanwhile, see lua/lib-handing.lua; the memory store hands nothing over. */
  standing?: string;
}

/** What a store answers to hosts; every call may be repeated. */
export interface HostSide {
  take(step: { tag: string; incarnation: string; ticketId: string; how?: "occupied" | "" }): Promise<string>;
  renew(step: { tag: string; incarnation: string; ticketId: string; how?: "occupied" | "leaving" | "" }): Promise<string>;
  claim(step: ClaimStep): Promise<HostClaim>;
  /** Writes the outputs first, then the outcomes. */
  commit(step: CommitStep): Promise<string[]>;
  release(step: { tag: string; incarnation: string; ticketId: string; matchingHosts: number; how: "unbegun" | "" }): Promise<string[]>;
}

export interface AuditedJob {
  state: JobState;
  revision: number;
  fence: number;
  attempt: number;
  failures: number;
  /** Milliseconds until the record goes; -1 while it has no end. */
  ttlMs: number;
}

/** Everything that a queue holds at one moment. */
export interface QueueAudit {
  nowMs: number;
  jobs: Map<string, AuditedJob>;
  /** Ids by class, in order. */
  order: Record<JobClass, string[]>;
  later: string[];
  due: string[];
  dead: string[];
  claims: { incarnation: string; jobs: { id: string; fence: number }[] }[];
  tickets: { id: string; state: string; incarnation: string; untilMs: number }[];
  /** Keys of ended jobs that would never go away. */
  immortal: string[];
}

export class TestHost {
  readonly incarnation = newIncarnation();
  readonly hostId: string;
  readonly tag: string;
  readonly #side: HostSide;
  /** Sequence of the last batch that this host heard of. */
  sequence = 0;

  constructor(side: HostSide, tag: string, hostId: string) {
    this.#side = side;
    this.tag = tag;
    this.hostId = hostId;
  }

  #step(ticketId: string) {
    return { tag: this.tag, incarnation: this.incarnation, ticketId };
  }

  take(ticketId: string, how: "occupied" | "" = ""): Promise<string> {
    return this.#side.take({ ...this.#step(ticketId), how });
  }

  renew(ticketId: string, how: "occupied" | "leaving" | "" = ""): Promise<string> {
    return this.#side.renew({ ...this.#step(ticketId), how });
  }

  /** Claims with the next sequence, or the one that is given. */
  async claim(ticketId: string, how: ClaimWishes = {}): Promise<HostClaim> {
    const sequence = how.sequence ?? this.sequence + 1;
    const wish = { maxItems: 16, busyMs: 500, lingerMs: 200, ...unforeseen, ...how, sequence };
    const answer = await this.#side.claim({ ...this.#step(ticketId), hostId: this.hostId, ...wish });
    if (answer.kind === "batch" || answer.kind === "stale_sequence") this.sequence = Math.max(this.sequence, sequence);
    return answer;
  }

  /** Claims and answers the jobs; throws when there is no batch. */
  async batch(ticketId: string, how: ClaimWishes = {}): Promise<HostJob[]> {
    const answer = await this.claim(ticketId, how);
    if (answer.kind !== "batch") throw new Error(`expected a batch, got ${answer.kind}`);
    return answer.jobs;
  }

  commit(ticketId: string, outcomes: readonly HostOutcome[], { runMs = 3, lingerMs = 0, standing = "" } = {}): Promise<string[]> {
    return this.#side.commit({ ...this.#step(ticketId), runMs, outcomes, lingerMs, standing });
  }

  /** `unbegun`: the host has begun nothing under it. */
  release(ticketId: string, matchingHosts = 1, how: "unbegun" | "" = ""): Promise<string[]> {
    return this.#side.release({ ...this.#step(ticketId), matchingHosts, how });
  }
}

/** Remembers the tickets that a store offers, instead of handing them to hosts. */
export class OfferedTickets implements TicketQueue {
  readonly all: { tag: string; ticketId: string }[] = [];

  offer(tag: string, ticketId: string): void {
    this.all.push({ tag, ticketId });
  }

  of(tag: string): string[] {
    return this.all.filter((one) => one.tag === tag).map((one) => one.ticketId);
  }

  async close(): Promise<void> {}
}

export type Accepted = Extract<Admitted, { answer: "admitted" | "existing" }>;

export function isAccepted(answer: Admitted): answer is Accepted {
  return answer.answer === "admitted" || answer.answer === "existing";
}

/** The figures of a host that predicts nothing. */
export const unforeseen: Pick<ClaimStep, "ladders" | "overheadMs" | "delayMs" | "isAhead"> & { parts: 1 } = {
  ladders: new Map(),
  overheadMs: 0,
  delayMs: 0,
  isAhead: false,
  parts: 1,
};

/** One host, batches of one, no bound. */
export const roomyQueue: AdmitQueue = { matchingHosts: 1, batchItems: 1, mostWaiting: Number.POSITIVE_INFINITY, isLight: false };

/** One queue of its own, seen by one coordinator. */
export class JobRig {
  readonly tag: string;
  readonly store: JobStore;
  readonly side: HostSide;
  readonly offers: OfferedTickets;
  readonly #audit: (tag: string) => Promise<QueueAudit>;

  constructor(parts: { store: JobStore; side: HostSide; offers: OfferedTickets; audit: (tag: string) => Promise<QueueAudit> }) {
    this.tag = queueTag("rig", randomBytes(8).toString("hex"));
    this.store = parts.store;
    this.side = parts.side;
    this.offers = parts.offers;
    this.#audit = parts.audit;
  }

  /** Tickets offered for this queue, oldest first. */
  get offered(): string[] {
    return this.offers.of(this.tag);
  }

  host(hostId = "host-1"): TestHost {
    return new TestHost(this.side, this.tag, hostId);
  }

  job(wishes: Partial<NewJob> = {}): NewJob {
    return newJob(this.tag, wishes);
  }

  /** Admits one job and answers its id. */
  async admit(wishes: Partial<NewJob> = {}, matchingHosts = 1, batchItems = 1): Promise<string> {
    return (await this.admitted(this.job(wishes), { matchingHosts, batchItems })).id;
  }

  /** Asks the store, and throws unless the job is there now. */
  async admitted(job: NewJob, queue: Partial<AdmitQueue> = {}): Promise<Accepted> {
    const answer = await this.store.admit(job, { ...roomyQueue, ...queue });
    if (isAccepted(answer)) return answer;
    throw new Error(`the job was not admitted: ${JSON.stringify(answer)}`);
  }

  /** A host that holds a ticket of this queue; jobs must be waiting. */
  async hostWithTicket(hostId = "host-1"): Promise<{ host: TestHost; ticket: string }> {
    const ticket = this.offered.at(-1);
    if (!ticket) throw new Error("no ticket was offered");
    const host = this.host(hostId);
    if ((await host.take(ticket)) !== "held") throw new Error("the ticket is gone");
    return { host, ticket };
  }

  async record(id: string): Promise<JobRecord> {
    const record = await this.store.read(id);
    if (!record || !("id" in record)) throw new Error(`job ${id} has no record`);
    return record;
  }

  audit(): Promise<QueueAudit> {
    return this.#audit(this.tag);
  }
}

export function newJob(tag: string, wishes: Partial<NewJob> = {}): NewJob {
  return {
    id: newJobId(tag),
    model: "digits",
    version: 1,
    class: "standard",
    tenant: "default",
    tenantWeight: 1,
    timeoutMs: 30_000,
    latestStartMs: 29_000,
    mostAhead: Number.POSITIVE_INFINITY,
    maxAttempts: 3,
    shapeClass: "1x64",
    size: 0,
    items: 1,
    ttlMs: 60_000,
    held: false,
    callerWaits: true,
    inputs: [Uint8Array.of(1, 2, 3)],
    wait: false,
    ...wishes,
  };
}

export function succeeded(job: { id: string; fence: number }, outputs: Uint8Array = Uint8Array.of(7)): HostOutcome {
  return { id: job.id, fence: job.fence, outcome: "succeeded", outputs };
}

export function isRecord(found: JobRecord | TombState | undefined): found is JobRecord {
  return found !== undefined && "id" in found;
}

/** Waits until something holds; for events that come through the network. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 3))) if (await holds()) return;
  throw new Error(`never came true: ${what}`);
}

/** Lets the store's clock pass a moment. */
export async function clockPasses(store: JobStore, untilMs: number): Promise<void> {
  await eventually("the store's clock moves on", () => store.nowMs() > untilMs + 2);
}

/** Lets so much of the store's own time pass; what it is by the coordinator's reckoning may be set right on the way. */
export async function timePasses(rig: JobRig, ms: number): Promise<void> {
  await clockPasses(rig.store, (await rig.audit()).nowMs + ms);
}

/**
 * What has to be done before a short time is over is tried with more of it, until there was enough: a test that waits for the time's end is
 * quick, and may be held up all the same. `attempt` answers undefined where its time was over, and begins anew with each call.
 */
export async function inTime<T>(leastMs: number, attempt: (ms: number) => Promise<T | undefined>): Promise<T> {
  for (let ms = leastMs; ms < 60_000; ms *= 4) {
    const made = await attempt(ms);
    if (made !== undefined) return made;
  }
  throw new Error("a minute was not enough");
}

/** One job that a host runs, whose time is over soon. */
export function runningForAShortTime(rig: JobRig): Promise<{ id: string; host: TestHost; ticket: string; job: HostJob }> {
  return inTime(120, async (timeoutMs) => {
    const id = await rig.admit({ timeoutMs });
    const { host, ticket } = await rig.hostWithTicket();
    const claim = await host.claim(ticket);
    return claim.kind === "batch" ? { id, host, ticket, job: claim.jobs[0] as HostJob } : undefined;
  });
}

/** One job that a host ran, and whose time is over soon. */
export function ranInAShortTime(rig: JobRig): Promise<HostJob> {
  return inTime(400, async (timeoutMs) => {
    await rig.admit({ timeoutMs });
    const { host, ticket } = await rig.hostWithTicket();
    const claim = await host.claim(ticket);
    if (claim.kind !== "batch") return undefined;
    const [job] = claim.jobs as [HostJob];
    const [answer] = await host.commit(ticket, [succeeded(job)]);
    if (answer === "expired") return undefined;
    if (answer !== "committed") throw new Error(`a job that ran in time was to be committed, and is ${answer}`);
    return job;
  });
}

/** When the ticket stops counting. */
export async function ticketEndMs(rig: JobRig, ticket: string): Promise<number> {
  return (await rig.audit()).tickets.find(({ id }) => id === ticket)?.untilMs ?? 0;
}

/** One that has run the only job, and waits for the next. */
export async function lingeringHost(rig: JobRig, lingerMs = 30_000) {
  const first = await rig.admit();
  const { host, ticket } = await rig.hostWithTicket();
  await host.commit(
    ticket,
    (await host.batch(ticket)).map((job) => succeeded(job)),
  );
  const { kind } = await host.claim(ticket, { lingerMs });
  if (kind !== "empty") throw new Error(`a queue without jobs was to be empty, and is ${kind}`);
  return { host, ticket, first };
}
