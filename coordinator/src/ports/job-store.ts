/**
 * Where jobs live. Every method is one atomic step on one queue and safe to repeat: after a lost reply the caller repeats it and gets
 * the answer that stands. Failures of the store itself are `store_unavailable` (the step may or may not have happened) or `store_full`.
 */

import type { DurableTier, JobClass, JobError, JobState, JobTrace } from "@switchyard/protocol";
import type { CacheTerms } from "./response-cache.ts";

export interface JobTimings {
  queueMs: number;
  runMs: number;
  totalMs: number;
  batchItems: number;
}

/** An idempotency key's entry: which request it belongs to, and which job answers it. */
export interface KeyEntry {
  fingerprint: string;
  jobId: string;
}

/** What the record says; times are milliseconds of the store's clock. */
export interface JobRecord {
  id: string;
  state: JobState;
  /** Rises with every transition; the ETag of the job view. */
  revision: number;
  fence: number;
  attempt: number;
  maxAttempts: number;
  /** Hosts that died while running it. */
  deaths: number;
  model: string;
  version: number;
  class: JobClass;
  tenant: string;
  createdMs: number;
  deadlineMs: number;
  startedMs?: number;
  finishedMs?: number;
  timings?: JobTimings;
  error?: JobError;
  tags?: Record<string, string>;
  hostId?: string;
  /** How long result and record stay after the end. */
  ttlMs: number;
  /** A held call without a key: nobody else will ask for it. */
  held: boolean;
  /** Outputs that were asked for, with their encoding wishes, as the door gave them; empty = all. */
  outputs?: { name: string; binary?: boolean; classification?: number }[];
  /** The client's own `id` of the inference, echoed in the answer. */
  requestId?: string;
  /** The job that failed and was submitted again as this one. */
  retryOf?: string;
  /** Absent: fast, which is never waited for. */
  durability?: DurableTier;
  /** Only of jobs that were admitted while tracing was on. */
  trace?: JobTrace;
}

/** An attempt that let its job wait again; of the last one all stands in the record. Times are of the store's clock. */
export interface EndedAttempt {
  /** Of its claim: rises with each, by one where nothing is missing. */
  fence: number;
  /** Its number among those that count; a claim that ran nothing shares it with the next. */
  attempt: number;
  hostId: string;
  startedMs: number;
  endedMs: number;
  /** The run failed and may be tried again; given back unrun; its host died; its host never heard of it. */
  end: "failed" | "handed_back" | "host_lost" | "claim_lost";
  /** Of the whole batch; 0 where none ran, or nobody is left to say. */
  runMs: number;
  batchItems: number;
  error?: JobError;
}

export interface NewJob {
  id: string;
  model: string;
  version: number;
  class: JobClass;
  tenant: string;
  /** The tenant's share among those that wait in its class. */
  tenantWeight: number;
  /** From now, by the store's clock. */
  timeoutMs: number;
  /** What the caller gave beyond that, spent in this coordinator; told when the job is refused. */
  spentMs?: number;
  /** Order key = now + this: the latest start that still meets the deadline. */
  latestStartMs: number;
  /** It is refused when more items would be served before it; Infinity: never. */
  mostAhead: number;
  /** How long it takes until so many are served: of other flows counts what is expected to come meanwhile. Absent: nothing does. */
  withinMs?: number;
  maxAttempts: number;
  shapeClass: string;
  /** Which run times it goes by (protocol run-estimates). */
  size: number;
  items: number;
  ttlMs: number;
  held: boolean;
  /** It is an inference: the outcome is its answer. A submission's is asked for later, also where its caller prefers to wait for it. */
  callerWaits: boolean;
  tags?: Record<string, string>;
  outputs?: { name: string; binary?: boolean; classification?: number }[];
  requestId?: string;
  retryOf?: string;
  /** Whoever admits waits for it, see ports/durable-store.ts; the store itself only keeps the word. */
  durability?: DurableTier;
  /** Only where tracing is on. */
  trace?: JobTrace;
  /** The framed inputs (protocol tensor-frame), in parts. */
  inputs: readonly Uint8Array[];
  /** Register this coordinator as a waiter in the same step. */
  wait: boolean;
  /** Only where the model's configuration has a cache. */
  cache?: CacheTerms;
}

/** What a queue is like when a job comes. */
export interface AdmitQueue {
  matchingHosts: number;
  /** Items of a full batch. */
  batchItems: number;
  /** No job is admitted beside so many waiting ones. */
  mostWaiting: number;
  /** Its runs are so short that a host gains nothing by waiting for a full batch. */
  isLight: boolean;
}

/** `waiting`: jobs that wait in the queue after this step. */
export type Admitted = { id: string; waiting: number } & (
  | {
      /** `existing`: the id was there before; `state` is what the record says. */
      answer: "admitted" | "existing";
      state: JobState;
      createdMs: number;
      deadlineMs: number;
    }
  /** `ahead`: items that would have been served before it. The job leaves nothing behind, nor does one that finds the queue full. */
  | { answer: "refused"; ahead: number }
  | { answer: "full" }
);

/** Bytes of a job's framed tensors; absent: there are none, or not any more. */
export interface ValueSizes {
  inputs?: number;
  outputs?: number;
}

/** One outcome or change that a waiter is told. */
export interface JobNotice {
  id: string;
  state: JobState;
  revision: number;
  fence: number;
  createdMs: number;
  /** 0 when it never started. */
  startedMs: number;
  finishedMs: number;
  deadlineMs: number;
  attempt: number;
  runMs: number;
  batchItems: number;
  /** The job's own. */
  items: number;
  class: JobClass;
  tenant: string;
  /** True for one of the coordinators that are told: the one whose metrics count the outcome. */
  counts: boolean;
  error?: JobError;
  /** Only where somebody asks for it: tracing is on, or jobs are logged. */
  trace?: JobTrace;
  /** The framed outputs, where they are small enough to come with the notice. */
  outputs?: Uint8Array;
}

/** The cursor of a list's first page, for who is to begin anew there. No empty text: whoever goes on while there is a cursor would take it for none. */
export const firstPage = "first";

export interface JobListFilter {
  /** Only this tenant's jobs; from outside also `*`, which stands for all tenants and is for operators. */
  tenant?: string;
  model?: string;
  version?: number;
  state?: JobState;
  class?: JobClass;
  tag?: string;
  host?: string;
  createdAfterMs?: number;
  createdBeforeMs?: number;
  /** Only dead letters, by their end instead of their creation. */
  dead?: boolean;
  /** Of the error. */
  code?: string;
  limit: number;
  cursor?: string;
}

export interface JobPage {
  jobs: JobRecord[];
  /** Present while there may be more. */
  cursor?: string;
}

export type TombState = { state: JobState; finishedMs: number; tenant: string };

export interface QueueFigures {
  waiting: number;
  running: number;
  /** Age of the oldest waiting job; 0 without one. */
  oldestMs: number;
  /** Dead letters that the queue keeps. */
  dead: number;
}

/** What waits of one tenant in one class of one queue. */
export interface WaitingFlow {
  tag: string;
  tenant: string;
  class: JobClass;
  jobs: number;
}

export interface SweepAnswer {
  nowMs: number;
  figures: QueueFigures;
  expired: number;
  /** Jobs that were handed over to a host which did not commit them in time, and wait again: it is taken for dead. */
  returned: number;
  /** Tickets under which such jobs are late; they come back at a sweep that follows soon, unless they are committed. */
  doubted: number;
  /** Whether jobs of held calls that ended together are over: see forgetEnded. */
  toForget: boolean;
  tickets: string[];
  /** Incarnations with an outstanding claim, with the claim's sequence. */
  claims: { incarnation: string; sequence: number }[];
}

export interface JobStore {
  /**
   * Writes inputs and records of all jobs of this turn, or refuses them by their own bound or the queue's; asks for tickets where needed. Jobs of
   * one turn may belong to several queues.
   */
  admit(job: NewJob, queue: AdmitQueue): Promise<Admitted>;
  /** The entry of a tenant's idempotency key, if it is bound. */
  boundKey(key: { tenant: string; name: string }): Promise<KeyEntry | undefined>;
  /** Binds a key to a job id before the record exists; answers the entry that stands, this one or an earlier one. */
  bindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<KeyEntry>;
  /** Binds a key anew: the job that it was bound to was never made, and its queue is gone. */
  rebindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<void>;
  /** Every queue that ever had a job and was not forgotten; queues of models that left the repository are among them. */
  knownQueues(): Promise<string[]>;
  /** Remembers a queue until it is forgotten. */
  rememberQueue(tag: string): Promise<void>;
  /** Removes what an empty queue leaves behind; does nothing while it lists or holds jobs, be they of held calls that have ended together. */
  forgetQueue(tag: string): Promise<void>;
  /** The record, or a tombstone of one that is gone, or nothing. */
  read(id: string): Promise<JobRecord | TombState | undefined>;
  /** Attempts that let the job wait again, oldest first; only the last 32 are kept, and as long as the record may be. */
  attempts(id: string): Promise<EndedAttempt[]>;
  /** Reads the record and registers this coordinator as a waiter in one step. */
  watch(id: string): Promise<JobRecord | TombState | undefined>;
  /** States and revisions of many jobs at once; the fallback when a notice was lost. Missing jobs are absent. */
  peek(ids: readonly string[]): Promise<Map<string, { state: JobState; revision: number }>>;
  /**
   * Framed outputs of a succeeded job; undefined when they are gone. Calls of one turn are read together. With `maxBytes` larger ones need not
   * be read, and are then undefined too.
   */
  outputs(id: string, fence: number, maxBytes?: number): Promise<Uint8Array | undefined>;
  /** Moves the record to `cancelled` if it is not terminal; answers the record as it then is. `moved` tells whether this call (or an earlier cancel) did it. */
  cancel(id: string): Promise<{ record: JobRecord; moved: boolean } | undefined>;
  /** Moves the record to `expired` if its deadline has passed and it is not terminal; answers its state. */
  expire(ids: readonly string[]): Promise<void>;
  /** A held job that outlives its call is kept like any other: full retention, listed. */
  keep(id: string, ttlMs: number): Promise<void>;
  list(tags: readonly string[], filter: JobListFilter): Promise<JobPage>;
  /** The framed inputs, as they were admitted; undefined when they are gone. Those of a dead letter stay for a day, all others go with the job's end. */
  inputs(id: string): Promise<Uint8Array | undefined>;
  /** The first so many bytes of the framed inputs, or all of them where they are fewer; reads no more than it must. */
  inputsBeginning(id: string, bytes: number): Promise<Uint8Array | undefined>;
  /** How large inputs, and the outputs of this fence, are. */
  sizes(id: string, fence: number): Promise<ValueSizes>;
  /** Of which of these jobs there are inputs. */
  inputsKept(ids: readonly string[]): Promise<Set<string>>;
  /** Takes a job off the list of dead letters, and its inputs with it; answers whether it was there. */
  discard(id: string): Promise<boolean>;
  /** Which of these queues have jobs without an outcome; with `listed`, also those that only list ended ones. */
  openQueues(tags: readonly string[], listed?: "listed"): Promise<string[]>;
  /** Jobs that wait in these queues, by tenant and class; flows without any may be left out. */
  waiting(tags: readonly string[]): Promise<WaitingFlow[]>;
  /** Repairs one queue: expires heads, promotes due retries, forgets lost tickets, issues missing ones. `takers`: see HostDirectory; absent: nobody. */
  sweep(tag: string, matchingHosts: number, batchItems: number, takers?: readonly string[]): Promise<SweepAnswer>;
  /** Forgets some jobs of held calls that ended together and whose time is over, the oldest first; answers whether more of them are. */
  forgetEnded(tag: string): Promise<boolean>;
  /** Which of these queues have any such jobs, over or not. */
  keepingEnded(tags: readonly string[]): Promise<string[]>;
  /** Bars an incarnation in this queue and returns its claims; answers how many jobs came back and the tickets to offer. */
  takeBack(
    tag: string,
    incarnation: string,
    matchingHosts: number,
    batchItems: number,
  ): Promise<{ returned: number; failed: number; tickets: string[] }>;
  /** Takes the queue's tickets from hosts that should hold none; what they have claimed they finish. */
  callBack(tag: string, shouldNot: (incarnation: string) => boolean): Promise<void>;
  /** Returns one claim that its host does not know of (its reply was lost). */
  returnClaim(tag: string, incarnation: string, sequence: number): Promise<number>;
  /** Whether the store answers, and for how long this has been so. */
  health(): { answering: boolean; sinceMs: number };
  /** How full the store's memory is, from 0 to 1; 0 where it has no bound. At most a second old. */
  filled(): number;
  /** Called with every notice for jobs that this coordinator waits for. */
  onNotice(listener: (notice: JobNotice) => void): Promise<void>;
  /** The store's clock now, extrapolated from its last answer. */
  nowMs(): number;
}
