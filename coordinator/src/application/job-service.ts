/** What doors may ask of jobs. HTTP, gRPC and MCP doors call these and nothing else; every failure is a SwitchyardError. */

import type {
  DurableTier,
  FramedTensor,
  InferRequest,
  JobClass,
  JobState,
  ModelVersion,
  Requirement,
  SwitchyardError,
  Tensor,
  TraceContext,
} from "@switchyard/protocol";
import type { EndedAttempt, JobListFilter, JobPage, JobRecord, ValueSizes } from "../ports/job-store.ts";
import type { Caller } from "./caller.ts";
import type { DeviceEstimate } from "./forecasts.ts";
import type { Leaving } from "./waiters.ts";

export interface Submission {
  model: string;
  version?: number;
  /** Through which the version was or is to be chosen. */
  alias?: string;
  request: InferRequest;
  timeoutMs?: number;
  /** What the request waited for in this coordinator's event loop, and its answer will wait for: taken from the timeout, given or not. */
  spentMs?: number;
  class?: JobClass;
  maxAttempts?: number;
  tags?: Record<string, string>;
  /** Absent: fast. */
  durability?: DurableTier;
  /** What a host must have beyond what the model requires. */
  require?: Requirement;
  /** Wait until the deadline for a host that has what is required, instead of being refused while there is none. */
  waitForHost?: boolean;
  /** The client's idempotency key and the SHA-256 of the canonical request. */
  idempotency?: { key: string; fingerprint: string };
  /** The caller holds the line: without an idempotency key the record is kept 60 s only. */
  hold: boolean;
  /** The job that failed and is submitted again: the new one goes into the same queue. */
  retryOf?: string;
  /** It is made together with the job `of`, as the one of that index: in the same queue, and once however often it is submitted. */
  member?: { of: string; index: number };
  /** How much longer than usual its record and result stay after its end, at most its timeout: others that were made with it may end so much later. */
  keptMs?: number;
  /** It shares a batch with nobody: hosts have died of it before, or may have. */
  alone?: boolean;
  /** The span that it belongs to; only where tracing is on. */
  trace?: TraceContext | undefined;
}

/** What became of one dead letter that was to be submitted again. */
export type Requeued = { id: string } & ({ retriedAs: string } | { refused: SwitchyardError });

/** A dead letter, and whether its inputs are still there. */
export interface DeadLetter {
  record: JobRecord;
  inputsKept: boolean;
}

export interface JobInput extends FramedTensor {
  /** Absent where it is large. */
  tensor?: Tensor;
}

export interface DeadLetterService {
  /** Newest first, of the caller's tenant and models. */
  list(filter: JobListFilter, caller: Caller): Promise<{ letters: DeadLetter[]; cursor?: string }>;
  /**
   * Submits an ended job again as a new one, on the terms of the old; the old one is no dead letter any more. Repeating it answers the same new
   * job. Throws job_not_found, result_expired, job_not_finished, job_already_ended for a success, inputs_expired, and what a submission throws.
   */
  retry(id: string, caller: Caller): Promise<Settled>;
  /**
   * Does so with one page of dead letters. A job that is refused stays where it is; when the store goes away the rest is left, and the cursor is
   * that of the same page.
   */
  requeue(filter: JobListFilter, caller: Caller): Promise<{ requeued: Requeued[]; cursor?: string }>;
  /** Lets the inputs go. Throws not_found for what is no dead letter, besides job_not_found and result_expired. */
  discard(id: string, caller: Caller): Promise<DeadLetter>;
}

/** What waits of one tenant for one model version. */
export interface TenantWaiting {
  tenant: string;
  model: string;
  version: number;
  jobs: number;
}

/** What became of one page of a bulk cancellation. */
export interface Cancelled {
  /** Jobs without an outcome that the filter named. */
  matched: number;
  cancelled: number;
  cursor?: string;
}

export interface Settled {
  record: JobRecord;
  /** Whether this answers an earlier request with the same idempotency key. */
  replayed: boolean;
}

export interface ModelEstimates {
  model: string;
  version: number;
  /** What passes between this coordinator and the store beside a job's life there. */
  networkMs: number;
  devices: DeviceEstimate[];
}

export interface JobService {
  /** Validates, admits, answers at once. */
  submit(submission: Submission, caller: Caller): Promise<Settled>;
  /** The job of an earlier request with the same key; undefined where there is none. Throws `idempotency_key_reused`, and `result_expired` for one that is gone. */
  earlier(idempotency: NonNullable<Submission["idempotency"]>, caller: Caller): Promise<JobRecord | undefined>;
  /** Throws what refuses any job of this version now, whatever its inputs are: so they need not be read. A repeat under a key may be answered all the same. */
  requireOpen(of: Pick<Submission, "model" | "version" | "alias">, caller: Caller): void;
  /**
   * Submits and holds until the outcome. Resolves with outputs when succeeded; throws the job's own error otherwise (`expired`, `cancelled`,
   * `run_failed`, …). When `signal` aborts, a job without an idempotency key is cancelled.
   */
  infer(submission: Submission, caller: Caller, signal: Leaving): Promise<Settled & { outputs: Tensor[] }>;
  /** The record as it is; job_not_found, or result_expired for a tombstone. */
  get(id: string, caller: Caller): Promise<JobRecord>;
  /** The record, and of its attempts those that let it wait again. Throws what `get` does. */
  history(id: string, caller: Caller): Promise<{ record: JobRecord; attempts: EndedAttempt[] }>;
  /**
   * Waits until the record is terminal, or its revision leaves `afterRevision`, or `waitMs` is over, or the signal aborts; answers the
   * record as it then is. A frozen store ends the wait with store_unavailable.
   */
  wait(id: string, how: { waitMs: number; afterRevision?: number; signal?: AbortSignal }, caller: Caller): Promise<JobRecord>;
  /** A held job that outlives its call keeps its full retention. */
  keep(id: string): Promise<void>;
  /**
   * Outputs in the order asked for. job_not_finished, job_not_succeeded (with the job's error in facts.extra), result_expired, which may also
   * be the answer when they are larger than `maxBytes`.
   */
  outputs(record: JobRecord, how?: { maxBytes?: number }): Promise<Tensor[]>;
  /** `moved` is false when it had already ended otherwise. */
  cancel(id: string, caller: Caller): Promise<{ record: JobRecord; moved: boolean }>;
  /**
   * Of the caller's tenant; of others, or of all with `*`, for operators only, as is the filter by host. One after
   * another for each caller. Throws `forbidden`, and `rate_limited` when too many wait their turn.
   */
  list(filter: JobListFilter, caller: Caller): Promise<JobPage>;
  /** Cancels one page of what `list` shows, those jobs that have no outcome yet; a dry run only counts them. */
  cancelListed(filter: JobListFilter, caller: Caller, how: { dryRun: boolean }): Promise<Cancelled>;
  /** Bytes of inputs and outputs, as far as they are there. Reads neither. Throws what `get` does. */
  sizes(id: string, caller: Caller): Promise<ValueSizes>;
  /**
   * As they were admitted; of those that together exceed `maxBytes` everything but the bytes, which are not read. Throws job_not_found,
   * result_expired, and inputs_expired when they are gone.
   */
  inputs(id: string, caller: Caller, how: { maxBytes: number }): Promise<JobInput[]>;
  /** Where these jobs stand, without what durable jobs must wait for before an outcome is told; those that are gone are absent. */
  states(ids: readonly string[]): Promise<Map<string, JobState>>;
  /** What the store keeps best; undefined: nothing beyond fast. Throws `store_unavailable`. */
  strongestTier(): Promise<DurableTier | undefined>;
  /**
   * When the last of so many jobs would be done that came now, from now, by what this coordinator knows; undefined while it knows nothing of
   * their run times.
   */
  expectedMs(version: ModelVersion, work: { request: InferRequest; jobs?: number }): number | undefined;
  /** What is known of a model's run times. Throws model_not_found, version_not_found, store_unavailable. */
  estimates(model: string, version: number | string | undefined): Promise<ModelEstimates>;
  /** Jobs of all tenants that wait for models that are known; for operators. */
  waiting(): Promise<TenantWaiting[]>;
  /** What is wrong right now, for /readyz: empty when ready. */
  unready(): { check: string; detail: string }[];
}
