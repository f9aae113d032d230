/**
 * From a submission to an admitted job: its key, its version, its terms, and the wait for its outcome, in the order in which nothing can be lost. Holds
 * nothing of a job.
 */

import {
  checkInputs,
  checkOutputs,
  type ErrorCode,
  frameParts,
  type JobTrace,
  type ModelVersion,
  SwitchyardError,
  sizeClassOf,
} from "@switchyard/protocol";
import { memberJobId, newJobId, tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobRecord, JobStore, KeyEntry, NewJob } from "../ports/job-store.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry, ModelStatus } from "../ports/model-registry.ts";
import type { OpenSpan, Tracing } from "../ports/tracing.ts";
import { type JobTerms, jobTerms } from "../scheduler/job-terms.ts";
import { cacheTermsOf } from "./cache-terms.ts";
import { type Caller, requireModel } from "./caller.ts";
import type { DurableJobs } from "./durable-jobs.ts";
import type { Forecasts } from "./forecasts.ts";
import type { JobJournal } from "./job-journal.ts";
import { type JobRecords, recordOrGone } from "./job-records.ts";
import type { Submission } from "./job-service.ts";
import { newRecord } from "./new-record.ts";
import { type CachedResponses, isCacheable, type Placement } from "./response-cache.ts";
import { beingRemoved } from "./version-removal.ts";
import type { Leaving, Wait, Waiters } from "./waiters.ts";

/** How long the record of a held call without an idempotency key stays. */
const heldTtlMs = 60_000;
const usualBatchItems = 8;
const storeRefusals: ReadonlySet<ErrorCode> = new Set(["store_unavailable", "store_full"]);
/** Above this share of the store's memory it would soon refuse the bytes of jobs that were taken. */
const mostFilled = 0.8;

export interface SubmissionsParts {
  store: JobStore;
  models: ModelRegistry;
  hosts: Pick<HostRegistry, "matching">;
  waiters: Waiters;
  forecasts: Forecasts;
  /** Absent: nothing is answered from a cache. */
  cached?: CachedResponses;
  durable: DurableJobs;
  records: JobRecords;
  clock: Clock;
  metrics: Metrics;
  resultTtlMs: number;
  /** Told before a queue may have its first job: nobody may know of it afterwards but by what was said until then. */
  onAdmitting: (tag: string) => void;
  /** Told which queues have work, so that they are swept often. */
  onAdmitted: (tag: string) => void;
  /** Absent: nothing is traced. */
  tracing?: Tracing;
  /** Absent: no lines of the log are about single jobs. */
  journal?: JobJournal;
}

export interface Placed {
  record: JobRecord;
  replayed: boolean;
  /** Set while the wait for the outcome was registered before the admission. */
  wait?: Wait;
  /** When the admission was sent, by this machine's monotonic clock; with `wait`. */
  sentMs?: number;
  /** Framed outputs that are known already. */
  outputs?: Uint8Array;
}

/** What decides whether a job is admitted. */
interface Asked {
  version: ModelVersion;
  checked: ReturnType<typeof checkInputs>;
  /** Names of the outputs, where not all are asked for. */
  wanted: ReturnType<typeof checkOutputs> | undefined;
  size: number;
  terms: JobTerms;
}

/** What says which version is to run a job. */
type Servable = Pick<Submission, "model" | "version" | "alias" | "class" | "member" | "retryOf">;

export class Submissions {
  readonly #parts: SubmissionsParts;

  constructor(parts: SubmissionsParts) {
    this.#parts = parts;
  }

  /** Everything up to the admission. With a `signal` the wait is registered first, so that no notice can come too early. */
  async place(submission: Submission, caller: Caller, signal: Leaving | undefined): Promise<Placed> {
    const { clock, durable, metrics, models, records, waiters } = this.#parts;
    requireModel(caller, submission.model);
    if (submission.idempotency) {
      // asked before anything of the model: an answer that exists does not need it any more
      const earlier = await this.earlier(submission.idempotency, caller);
      if (earlier) return { record: earlier, replayed: true };
    }
    let status = this.#servableOrCounted(submission, caller);
    if (submission.require) status = models.requiring(status.version, submission.require);
    if (submission.durability) await durable.require(submission.durability);
    this.#requireHost(status, submission, caller);
    const beganMs = clock.monotonicMs();
    const asked = this.#asked(submission, status.version);
    if (signal) this.#requireTime(asked, submission, { caller, beganMs });
    let job = this.#newJob(submission, caller, asked);
    if (submission.require || submission.retryOf) await models.openChoosy(status.version);
    if (submission.idempotency) {
      const settled = await this.#bind(submission, submission.idempotency, caller, job);
      if ("record" in settled) return settled;
      job = settled.job;
    }
    const wait = signal ? waiters.register(job.id, { signal, isAhead: true }) : undefined;
    const sentMs = clock.monotonicMs();
    try {
      if (!models.mayTake(tagOf(job.id))) throw beingRemoved(job);
      // with `outputs` those that are known already come with the record
      const { record: admitted, outputs }: Placement =
        this.#parts.cached && isCacheable(job)
          ? await this.#parts.cached.place(job, { outputs: signal !== undefined, admit: () => this.#admit(job) })
          : { record: await this.#admit(job) };
      // another call with the same key was faster between key and record
      const placed: Placed = admitted
        ? { record: admitted, replayed: false }
        : { record: await records.watched(job.id, caller), replayed: true };
      if (!admitted) waiters.setDeadline(job.id, placed.record.deadlineMs);
      if (outputs) placed.outputs = outputs;
      // of a job that was there before nobody here knows how long it took
      return wait ? { ...placed, wait, ...(admitted && { sentMs }) } : placed;
    } catch (error) {
      wait?.leave();
      metrics.rejected(submission.model, job.class, codeOf(error), caller.tenant);
      metrics.refusalTook((clock.monotonicMs() - beganMs) / 1_000);
      throw error; // a key stays bound to its job id: a repeat makes that very job
    }
  }

  /** The job of an earlier request with the same key. */
  async earlier({ fingerprint, key }: NonNullable<Submission["idempotency"]>, { tenant }: Caller): Promise<JobRecord | undefined> {
    const bound = await this.#parts.store.boundKey({ tenant, name: key });
    return bound && this.#replay(bound, fingerprint);
  }

  /** Throws what refuses a job before its inputs matter, and counts it. */
  requireOpen(submission: Pick<Submission, "model" | "version" | "alias">, caller: Caller): void {
    requireModel(caller, submission.model);
    this.#requireHost(this.#servableOrCounted(submission, caller), submission, caller);
  }

  #requireHost(status: ModelStatus, submission: Pick<Submission, "model" | "class" | "waitForHost">, caller: Caller): void {
    if (!status.missing || submission.waitForHost) return;
    const jobClass = submission.class ?? status.version.config.class ?? "standard";
    this.#parts.metrics.rejected(submission.model, jobClass, "no_capable_host", caller.tenant);
    throw noCapableHost(status);
  }

  /** The job that a key is bound to, if it was made. */
  async #replay(entry: KeyEntry, fingerprint: string): Promise<JobRecord | undefined> {
    if (entry.fingerprint !== fingerprint) {
      throw new SwitchyardError(
        "idempotency_key_reused",
        "this Idempotency-Key was used for another request; use a new key for a new request",
      );
    }
    const found = await this.#parts.store.watch(entry.jobId);
    if (!found) return undefined;
    this.#parts.onAdmitted(tagOf(entry.jobId)); // whoever admitted it may be gone: sweep its queue
    return recordOrGone(entry.jobId, found);
  }

  /**
   * Binds the key to this job before its record exists. Where an earlier try died between key and record, its work is finished under its id
   * and for its version; only when that queue is gone the key is bound anew.
   */
  async #bind(
    submission: Submission,
    { key, fingerprint }: { key: string; fingerprint: string },
    caller: Caller,
    job: NewJob,
  ): Promise<{ record: JobRecord; replayed: true } | { job: NewJob }> {
    const { models, store } = this.#parts;
    const bound = { tenant: caller.tenant, name: key, ttlMs: job.timeoutMs + job.ttlMs };
    const entry = await store.bindKey(bound, { fingerprint, jobId: job.id });
    if (entry.jobId === job.id) return { job };
    const record = await this.#replay(entry, fingerprint);
    if (record) return { record, replayed: true };
    if (tagOf(entry.jobId) === tagOf(job.id)) return { job: { ...job, id: entry.jobId } };
    const earlierVersion = models.byTag(tagOf(entry.jobId))?.version;
    if (earlierVersion) return { job: { ...this.#newJob(submission, caller, this.#asked(submission, earlierVersion)), id: entry.jobId } };
    await store.rebindKey(bound, { fingerprint, jobId: job.id });
    return { job };
  }

  /** What the store's state refuses is counted as what admission refuses; a wrong name is the caller's mistake. */
  #servableOrCounted(submission: Servable, { tenant }: Caller): ModelStatus {
    try {
      return this.#servable(submission);
    } catch (error) {
      if (error instanceof SwitchyardError && storeRefusals.has(error.code))
        this.#parts.metrics.rejected(submission.model, submission.class ?? "standard", error.code, tenant);
      throw error;
    }
  }

  #servable(submission: Servable): ModelStatus {
    const { alias, member, model, retryOf, version } = submission;
    const sameAs = retryOf ?? member?.of;
    const status = sameAs === undefined ? this.#parts.models.resolve(model, version ?? alias) : this.#servedBy(tagOf(sameAs), submission);
    if (status.state === "unloaded") throw unloaded(submission.model);
    if (status.state === "leaving") throw beingRemoved(status.version);
    if (status.state === "failed") {
      throw new SwitchyardError(
        "model_failed",
        `model ${submission.model} version ${status.version.version} failed to load: ${status.reason}`,
      );
    }
    if (!this.#parts.store.health().answering) throw storeAway();
    const filled = this.#parts.store.filled();
    if (filled > mostFilled) {
      const detail = `the store's memory is ${Math.round(100 * filled)} % full, and above ${100 * mostFilled} % no jobs are taken; try again later`;
      throw new SwitchyardError("store_full", detail, { retryAfterMs: 1_000 });
    }
    return status;
  }

  /** The queue says more than model and version: what a job requires beyond its model is part of it. */
  #servedBy(tag: string, { model, version }: Servable): ModelStatus {
    const status = this.#parts.models.byTag(tag);
    if (status) return status;
    throw new SwitchyardError("version_not_found", `model ${model} version ${version} is no longer in the repository`);
  }

  /** Throws what is wrong with the request. */
  #asked(submission: Submission, version: ModelVersion): Asked {
    const { inputs, outputs } = submission.request;
    const checked = checkInputs(inputs, version.signature);
    const { items } = checked;
    const limit = version.config.max_batch_items;
    if (limit !== undefined && items > limit) {
      throw new SwitchyardError("invalid_request", `the job has ${items} items; model ${version.model} takes at most ${limit} a job`, {
        fields: [{ pointer: "/inputs/0/shape/0", expected: `at most ${limit}`, got: String(items) }],
      });
    }
    const wanted = outputs?.length ? checkOutputs(outputs, version.signature) : undefined;
    const size = sizeClassOf(checked, version.signature);
    const terms = jobTerms(submission, version.config, this.#parts.forecasts.costMs(version.tag, { size, items }));
    return { version, checked, wanted, size, terms };
  }

  /**
   * Throws, and counts, what refuses a held call because this coordinator is behind, before a job is made of it: one that is behind catches up only where a
   * refusal costs it much less than a job. Not where the cache may have the answer, where the job has a line in the log or spans of its own, nor where a
   * key stays bound to it.
   */
  #requireTime({ checked, size, terms, version }: Asked, submission: Submission, of: { caller: Caller; beganMs: number }): void {
    const { clock, forecasts, journal, metrics } = this.#parts;
    if (terms.spentMs === 0 || version.config.cache || journal || submission.trace?.isSampled || submission.idempotency) return;
    try {
      forecasts.requireTime(version.tag, { ...terms, size, items: checked.items });
    } catch (error) {
      metrics.rejected(version.model, terms.class, codeOf(error), of.caller.tenant);
      metrics.refusalTook((clock.monotonicMs() - of.beganMs) / 1_000);
      throw error;
    }
  }

  #newJob(submission: Submission, caller: Caller, { checked, size, terms, version, wanted }: Asked): NewJob {
    const { request } = submission;
    const { items, shapeClass } = checked;
    const { inputs } = checked; // hosts stack tensor by tensor, so every frame holds them in the signature's order
    const held = submission.hold && !submission.idempotency;
    const job: NewJob = {
      id: submission.member ? memberJobId(submission.member.of, submission.member.index) : newJobId(version.tag),
      model: version.model,
      version: version.version,
      tenant: caller.tenant,
      tenantWeight: caller.weight,
      mostAhead: Number.POSITIVE_INFINITY,
      size,
      ...terms,
      shapeClass: `${submission.alone ? "=" : ""}${shapeClass}${wanted ? `>${wanted.join(",")}` : ""}`,
      items,
      ttlMs: held ? heldTtlMs : this.#parts.resultTtlMs + Math.ceil(Math.min(submission.keptMs ?? 0, terms.timeoutMs)),
      held,
      callerWaits: submission.hold,
      wait: true,
      inputs: wanted ? frameParts(inputs, { o: wanted }) : frameParts(inputs),
    };
    if (submission.tags) job.tags = submission.tags;
    if (request.outputs?.length) job.outputs = request.outputs;
    if (request.id) job.requestId = request.id;
    if (submission.retryOf) job.retryOf = submission.retryOf;
    if (submission.durability) job.durability = submission.durability;
    if (submission.trace && this.#parts.tracing) job.trace = this.#parts.tracing.newJob(submission.trace);
    const cache = version.config.cache && cacheTermsOf(job, version);
    if (cache) job.cache = cache;
    return job;
  }

  /** Answers nothing when a job of that id was there before. */
  async #admit(job: NewJob): Promise<JobRecord | undefined> {
    const { forecasts, hosts, metrics, models, onAdmitted, onAdmitting, store, waiters } = this.#parts;
    const tag = tagOf(job.id);
    onAdmitting(tag);
    const batchItems = models.byTag(tag)?.batching?.maxItems ?? usualBatchItems;
    const span = job.trace && this.#parts.tracing && admission(this.#parts.tracing, job, job.trace);
    let admitted: ReturnType<Forecasts["answered"]>;
    try {
      ({ mostAhead: job.mostAhead, withinMs: job.withinMs } = forecasts.bound(job));
      const queue = {
        matchingHosts: hosts.matching(tag),
        batchItems,
        mostWaiting: forecasts.mostWaiting(tag),
        isLight: forecasts.isLight(tag, job.size),
      };
      admitted = forecasts.answered(job, await store.admit(job, queue));
    } catch (error) {
      span?.end({ code: codeOf(error), detail: (error as Error).message });
      this.#parts.journal?.refused(job, codeOf(error));
      throw error;
    }
    span?.end();
    onAdmitted(tag);
    if (admitted.answer === "existing") return undefined;
    this.#parts.journal?.queued(job);
    metrics.admitted(job.model, job.class);
    waiters.setDeadline(job.id, admitted.deadlineMs);
    return newRecord(job, admitted);
  }
}

function admission(tracing: Tracing, job: NewJob, { context, parentSpanId }: JobTrace): OpenSpan {
  const facts = { "switchyard.job.id": job.id, "switchyard.model": job.model, "switchyard.class": job.class };
  return tracing.step("admit", facts, { ...context, spanId: parentSpanId });
}

function codeOf(error: unknown): ErrorCode {
  return error instanceof SwitchyardError ? error.code : "internal";
}

function noCapableHost({ missing = [], version }: ModelStatus): SwitchyardError {
  const detail = `no registered host may run model ${version.model} version ${version.version}: missing ${missing.join(", ")}`;
  return new SwitchyardError("no_capable_host", detail, { extra: { missing } });
}

function storeAway(): SwitchyardError {
  return new SwitchyardError("store_unavailable", "the store does not answer; try again", { retryAfterMs: 1_000 });
}

/** The text is the one that other servers of the protocol answer. */
function unloaded(model: string): SwitchyardError {
  const detail = `Request for unknown model: '${model}' has no available versions: it was unloaded by request; POST /v2/repository/models/${model}/load loads it again`;
  return new SwitchyardError("model_unloaded", detail);
}
