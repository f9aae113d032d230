/**
 * The job service: validates a submission against its model, admits it, waits for its outcome, answers for any job of any coordinator.
 * Holds no state that another coordinator could not rebuild: waits are repeated from records.
 */

import {
  checkInputs,
  checkOutputs,
  decodeFrame,
  defaultAlias,
  frameParts,
  isTerminal,
  type ModelVersion,
  SwitchyardError,
  sizeClassOf,
  type Tensor,
} from "@switchyard/protocol";
import { jobIdPattern, newJobId, tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { DurableStore } from "../ports/durable-store.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobListFilter, JobNotice, JobPage, JobRecord, JobStore, KeyEntry, NewJob, TombState } from "../ports/job-store.ts";
import type { Metrics } from "../ports/metrics.ts";
import type { ModelRegistry, ModelStatus } from "../ports/model-registry.ts";
import { jobTerms } from "../scheduler/job-terms.ts";
import { cacheTermsOf } from "./cache-terms.ts";
import { type Caller, listedTenant, mayUse, requireModel, requireScope } from "./caller.ts";
import { DurableJobs } from "./durable-jobs.ts";
import type { Forecasts } from "./forecasts.ts";
import type { Cancelled, JobService, ModelEstimates, Settled, Submission, TenantWaiting } from "./job-service.ts";
import { newRecord } from "./new-record.ts";
import { type CachedResponses, isCacheable, type Placement } from "./response-cache.ts";
import type { Shadows } from "./shadows.ts";
import type { Wait, Waiters } from "./waiters.ts";

/** How long the record of a held call without an idempotency key stays. */
const heldTtlMs = 60_000;
const neverAborted = new AbortController().signal;
const usualBatchItems = 8;
/** Of a bulk change: it shares the store's connection with jobs that somebody waits for. */
const cancelledAtOnce = 100;
/** Above this share of the store's memory it would soon refuse the bytes of jobs that were taken. */
const mostFilled = 0.8;

export interface JobsParts {
  store: JobStore;
  models: ModelRegistry;
  hosts: HostRegistry;
  waiters: Waiters;
  forecasts: Forecasts;
  /** Absent: nothing is answered from a cache. */
  cached?: CachedResponses;
  /** Absent: no tier but fast is given. */
  durable?: DurableStore;
  clock: Clock;
  metrics: Metrics;
  resultTtlMs: number;
  /** Told which queues have work, so that they are swept often. */
  onAdmitted: (tag: string) => void;
  /** Absent: nothing is sent to a second version. */
  shadows?: Shadows;
  /** How many workers must have registered before this coordinator is ready. */
  expectedHosts: number;
}

interface Placed {
  record: JobRecord;
  replayed: boolean;
  /** Set while the wait for the outcome was registered before the admission. */
  wait?: Wait;
  /** When the admission was sent, by this machine's monotonic clock; with `wait`. */
  sentMs?: number;
  /** Framed outputs that are known already. */
  outputs?: Uint8Array;
}

export class Jobs implements JobService {
  readonly #parts: JobsParts;
  readonly #durable: DurableJobs;

  constructor(parts: JobsParts) {
    this.#parts = parts;
    this.#durable = new DurableJobs(parts.durable);
  }

  async submit(submission: Submission, caller: Caller): Promise<Settled> {
    const { record, replayed } = await this.#place(submission, caller, undefined);
    if (!replayed) this.#shadow(submission, caller);
    return { record: await this.#acknowledged(record), replayed };
  }

  async #acknowledged(record: JobRecord): Promise<JobRecord> {
    return recordOrGone(record.id, await this.#durable.acknowledged(record));
  }

  async infer(submission: Submission, caller: Caller, signal: AbortSignal): Promise<Settled & { outputs: Tensor[] }> {
    const placed = await this.#place(submission, caller, signal);
    if (!placed.replayed) this.#shadow(submission, caller);
    try {
      return await this.#settled(placed, submission, caller, signal);
    } catch (error) {
      if (!placed.replayed || !(error instanceof SwitchyardError)) throw error;
      throw new SwitchyardError(error.code, error.message, { ...error.facts, replayed: true });
    }
  }

  #shadow(submission: Submission, caller: Caller): void {
    const { models, shadows } = this.#parts;
    const alias = submission.alias ?? (submission.version === undefined ? defaultAlias : undefined);
    if (!shadows || alias === undefined || models.aliases(submission.model) === undefined) return;
    shadows.follow({ ...submission, alias }, (job) => this.infer(job, caller, neverAborted));
  }

  async #settled(placed: Placed, submission: Submission, caller: Caller, signal: AbortSignal): Promise<Settled & { outputs: Tensor[] }> {
    const { id, deadlineMs } = placed.record;
    const wait = placed.wait ?? this.#parts.waiters.register(id, { deadlineMs, signal });
    // a replayed job may have ended before this wait was registered, one that the cache answers has ended
    const hasEnded = isTerminal(placed.record.state);
    const isDurable = placed.record.durability !== undefined;
    const wake = hasEnded ? undefined : await wait.woken;
    wait.leave();
    if (wake?.kind === "time" && !submission.idempotency) {
      await this.#parts.store.cancel(id); // nobody can ask for this result any more
      throw new SwitchyardError("cancelled", "the caller went away before the job ended", { jobId: id });
    }
    // the notice of a durable job comes before its outcome may be told: its record is read when it may
    const notice = wake?.kind === "ended" && !isDurable ? wake.notice : undefined;
    if (notice && placed.sentMs !== undefined) {
      this.#parts.forecasts.networkTook(id, this.#parts.clock.monotonicMs() - placed.sentMs, notice.finishedMs - notice.createdMs);
    }
    const record = notice
      ? withNotice(placed.record, notice)
      : await this.#told(hasEnded ? placed.record : await this.#existing(id, caller));
    if (!isTerminal(record.state)) {
      if (wake?.kind === "time") throw new SwitchyardError("cancelled", "the caller went away before the job ended", { jobId: id });
      const detail = `the outcome of job ${id} was lost with the server that had it, and the job goes on: ask again with its id or key`;
      throw new SwitchyardError("store_unavailable", detail, { jobId: id, retryAfterMs: 1_000 });
    }
    if (record.state !== "succeeded") throw outcomeError(record);
    const frame = notice?.outputs ?? placed.outputs;
    return { record, replayed: placed.replayed, outputs: frame ? decodeFrame(frame) : await this.outputs(record) };
  }

  /** Everything up to the admission. With a `signal` the wait is registered first, so that no notice can come too early. */
  async #place(submission: Submission, caller: Caller, signal: AbortSignal | undefined): Promise<Placed> {
    const { clock, metrics, store, waiters } = this.#parts;
    requireModel(caller, submission.model);
    if (submission.idempotency) {
      // asked before anything of the model: an answer that exists does not need it any more
      const bound = await store.boundKey({ tenant: caller.tenant, name: submission.idempotency.key });
      const earlier = bound && (await this.#replay(bound, submission.idempotency.fingerprint));
      if (earlier) return { record: earlier, replayed: true };
    }
    let status = this.#servable(submission);
    if (submission.require) status = this.#parts.models.requiring(status.version, submission.require);
    if (submission.durability) await this.#durable.require(submission.durability);
    if (status.missing && !submission.waitForHost) {
      metrics.rejected(submission.model, submission.class ?? status.version.config.class ?? "standard", "no_capable_host");
      throw noCapableHost(status);
    }
    let job = this.#newJob(submission, caller, status.version);
    if (submission.require || submission.retryOf) await this.#parts.models.openChoosy(status.version);
    if (submission.idempotency) {
      const settled = await this.#bind(submission, submission.idempotency, caller, job);
      if ("record" in settled) return settled;
      job = settled.job;
    }
    const wait = signal ? waiters.register(job.id, { signal }) : undefined;
    const sentMs = clock.monotonicMs();
    try {
      const { record: admitted, outputs } = await this.#admitOrAnswer(job, signal !== undefined);
      // another call with the same key was faster between key and record
      const placed: Placed = admitted
        ? { record: admitted, replayed: false }
        : { record: await this.#existing(job.id, caller), replayed: true };
      if (!admitted) waiters.setDeadline(job.id, placed.record.deadlineMs);
      if (outputs) placed.outputs = outputs;
      // of a job that was there before nobody here knows how long it took
      return wait ? { ...placed, wait, ...(admitted && { sentMs }) } : placed;
    } catch (error) {
      wait?.leave();
      metrics.rejected(submission.model, job.class, error instanceof SwitchyardError ? error.code : "internal");
      metrics.refusalTook((clock.monotonicMs() - sentMs) / 1_000);
      throw error; // a key stays bound to its job id: a repeat makes that very job
    }
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
    if (earlierVersion) return { job: { ...this.#newJob(submission, caller, earlierVersion), id: entry.jobId } };
    await store.rebindKey(bound, { fingerprint, jobId: job.id });
    return { job };
  }

  #servable(submission: Submission): ModelStatus {
    const { alias, model, retryOf, version } = submission;
    const status = retryOf === undefined ? this.#parts.models.resolve(model, version ?? alias) : this.#servedBy(tagOf(retryOf), submission);
    if (status.state === "unloaded") throw unloaded(submission.model);
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
  #servedBy(tag: string, { model, version }: Submission): ModelStatus {
    const status = this.#parts.models.byTag(tag);
    if (status) return status;
    throw new SwitchyardError("version_not_found", `model ${model} version ${version} is no longer in the repository`);
  }

  #newJob(submission: Submission, caller: Caller, version: ModelVersion): NewJob {
    const { request } = submission;
    const checked = checkInputs(request.inputs, version.signature);
    const { items, shapeClass } = checked;
    const limit = version.config.max_batch_items;
    if (limit !== undefined && items > limit) {
      throw new SwitchyardError("invalid_request", `the job has ${items} items; model ${version.model} takes at most ${limit} a job`, {
        fields: [{ pointer: "/inputs/0/shape/0", expected: `at most ${limit}`, got: String(items) }],
      });
    }
    const { inputs } = checked; // hosts stack tensor by tensor, so every frame holds them in the signature's order
    const wanted = request.outputs?.length ? checkOutputs(request.outputs, version.signature) : undefined;
    const size = sizeClassOf(checked, version.signature);
    const terms = jobTerms(submission, version.config, this.#parts.forecasts.costMs(version.tag, { size, items }));
    const held = submission.hold && !submission.idempotency;
    const job: NewJob = {
      id: newJobId(version.tag),
      model: version.model,
      version: version.version,
      tenant: caller.tenant,
      tenantWeight: caller.weight,
      mostAhead: Number.POSITIVE_INFINITY,
      size,
      ...terms,
      shapeClass: `${submission.alone ? "=" : ""}${shapeClass}${wanted ? `>${wanted.join(",")}` : ""}`,
      items,
      ttlMs: held ? heldTtlMs : this.#parts.resultTtlMs,
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
    const cache = version.config.cache && cacheTermsOf(job, version);
    if (cache) job.cache = cache;
    return job;
  }

  /** With `outputs` those that are known already come with the record. */
  async #admitOrAnswer(job: NewJob, outputs: boolean): Promise<Placement> {
    const { cached } = this.#parts;
    if (cached && isCacheable(job)) return cached.place(job, { outputs, admit: () => this.#admit(job) });
    return { record: await this.#admit(job) };
  }

  /** Answers nothing when a job of that id was there before. */
  async #admit(job: NewJob): Promise<JobRecord | undefined> {
    const { forecasts, hosts, metrics, models, onAdmitted, store, waiters } = this.#parts;
    const tag = tagOf(job.id);
    const batchItems = models.byTag(tag)?.batching?.maxItems ?? usualBatchItems;
    const bounded = { ...job, mostAhead: forecasts.mostAhead(job) };
    const queue = { matchingHosts: hosts.matching(tag), batchItems, mostWaiting: forecasts.mostWaiting(tag) };
    const admitted = forecasts.answered(job, await store.admit(bounded, queue));
    onAdmitted(tag);
    if (admitted.answer === "existing") return undefined;
    metrics.admitted(job.model, job.class);
    waiters.setDeadline(job.id, admitted.deadlineMs);
    return newRecord(job, admitted);
  }

  async get(id: string, caller: Caller): Promise<JobRecord> {
    checkId(id);
    return this.#told(this.#ofCaller(id, await this.#parts.store.read(id), caller));
  }

  async #told(record: JobRecord): Promise<JobRecord> {
    return recordOrGone(record.id, await this.#durable.told(record));
  }

  /** The record with this coordinator registered as a waiter. */
  async #existing(id: string, caller: Caller): Promise<JobRecord> {
    return this.#ofCaller(id, await this.#parts.store.watch(id), caller);
  }

  #ofCaller(id: string, found: JobRecord | TombState | undefined, caller: Caller): JobRecord {
    // another tenant's job does not exist for this caller, nor does one of a model that its key may not use
    if (found && (found.tenant !== caller.tenant || ("model" in found && !mayUse(caller, found.model)))) throw jobNotFound(id);
    return recordOrGone(id, found);
  }

  async wait(id: string, how: { waitMs: number; afterRevision?: number; signal?: AbortSignal }, caller: Caller): Promise<JobRecord> {
    checkId(id);
    const time = new AbortController();
    const cancelTimer = this.#parts.clock.after(how.waitMs, () => time.abort());
    const signal = how.signal ? AbortSignal.any([how.signal, time.signal]) : time.signal;
    const { waiters } = this.#parts;
    try {
      for (;;) {
        // registered before the record is read: an outcome in between is seen by one or the other
        const wait = waiters.register(id, { signal, ...(how.afterRevision === undefined ? {} : { afterRevision: how.afterRevision }) });
        const record = await this.#existing(id, caller);
        waiters.setDeadline(id, record.deadlineMs);
        const changed = how.afterRevision !== undefined && record.revision !== how.afterRevision;
        if (isTerminal(record.state) || changed || signal.aborted) {
          const told = await this.#told(record);
          // an outcome that was lost with the server that had it is none: the job goes on
          if (isTerminal(told.state) === isTerminal(record.state) || signal.aborted) return told;
        }
        await wait.woken; // then the record is read again: its view must be the same whoever asks, and a notice does not say everything
      }
    } finally {
      cancelTimer();
      time.abort(); // ends a wait that is no longer needed
    }
  }

  async keep(id: string): Promise<void> {
    await this.#parts.store.keep(id, this.#parts.resultTtlMs);
  }

  async outputs(record: JobRecord, how: { maxBytes?: number } = {}): Promise<Tensor[]> {
    if (!isTerminal(record.state)) {
      throw new SwitchyardError("job_not_finished", `the job is ${record.state}; ask again, or wait with ?wait=`, {
        jobId: record.id,
        retryAfterMs: 1_000,
        extra: { state: record.state },
      });
    }
    if (record.state !== "succeeded") {
      throw new SwitchyardError("job_not_succeeded", record.error?.detail ?? `the job is ${record.state}`, {
        jobId: record.id,
        extra: { state: record.state, error: record.error },
      });
    }
    const frame = await this.#parts.store.outputs(record.id, record.fence, how.maxBytes);
    if (!frame) {
      throw new SwitchyardError("result_expired", "the result is no longer kept", { jobId: record.id });
    }
    return decodeFrame(frame);
  }

  async cancel(id: string, caller: Caller): Promise<{ record: JobRecord; moved: boolean }> {
    checkId(id);
    await this.get(id, caller);
    const cancelled = await this.#parts.store.cancel(id);
    if (!cancelled) throw jobNotFound(id);
    return { ...cancelled, record: await this.#told(cancelled.record) };
  }

  async cancelListed(filter: JobListFilter, caller: Caller, how: { dryRun: boolean }): Promise<Cancelled> {
    const { jobs, cursor } = await this.list(filter, caller);
    const open = jobs.filter(({ state }) => !isTerminal(state));
    const answer = { matched: open.length, cancelled: 0, ...(cursor !== undefined && { cursor }) };
    if (how.dryRun) return answer;
    for (let from = 0; from < open.length; from += cancelledAtOnce) {
      const ended = await Promise.all(open.slice(from, from + cancelledAtOnce).map(({ id }) => this.#parts.store.cancel(id)));
      answer.cancelled += ended.filter((one) => one?.moved).length;
    }
    return answer;
  }

  async inputs(id: string, caller: Caller): Promise<Tensor[]> {
    const record = await this.get(id, caller);
    const frame = await this.#parts.store.inputs(id);
    if (frame) return decodeFrame(frame);
    const detail = `the inputs of this job are gone; it is ${record.state}, and only dead letters keep theirs after the end, for a day`;
    throw new SwitchyardError("inputs_expired", detail, { jobId: id, extra: { state: record.state } });
  }

  async list(filter: JobListFilter, caller: Caller): Promise<JobPage> {
    const { models, store } = this.#parts;
    if (filter.model !== undefined) requireModel(caller, filter.model);
    if (filter.model !== undefined && models.versions(filter.model).length === 0) {
      throw new SwitchyardError("model_not_found", `Request for unknown model: '${filter.model}' is not found`);
    }
    const queues = await models.queuesOf(filter);
    const tags = caller.models === undefined ? queues : queues.filter((tag) => mayUse(caller, models.byTag(tag)?.version.model ?? ""));
    const { tenant: asked, ...others } = filter;
    const tenant = listedTenant(caller, asked);
    if (filter.host !== undefined) requireScope(caller, ["operate"]); // others are not shown where their jobs ran
    if (tags.length === 0) return { jobs: [] };
    const page = await store.list(tags, { ...others, ...(tenant !== undefined && { tenant }) });
    return { ...page, jobs: await this.#durable.listed(page.jobs) };
  }

  async estimates(model: string, version: number | string | undefined): Promise<ModelEstimates> {
    const { forecasts, models } = this.#parts;
    const { version: found } = models.resolve(model, version);
    return { model, version: found.version, networkMs: forecasts.networkMs(), devices: await forecasts.estimates(found.tag) };
  }

  async waiting(): Promise<TenantWaiting[]> {
    const { models, store } = this.#parts;
    const sums = new Map<string, TenantWaiting>();
    for (const { tag, tenant, jobs } of await store.waiting(await store.openQueues(models.tags()))) {
      const version = models.byTag(tag)?.version;
      if (version === undefined) continue; // its model left meanwhile
      const sum = sums.get(`${tag} ${tenant}`) ?? { tenant, model: version.model, version: version.version, jobs: 0 };
      sum.jobs += jobs;
      sums.set(`${tag} ${tenant}`, sum);
    }
    return [...sums.values()];
  }

  unready(): { check: string; detail: string }[] {
    const { expectedHosts, hosts, models, store } = this.#parts;
    const failed: { check: string; detail: string }[] = [];
    if (!store.health().answering) failed.push({ check: "store", detail: "Redis does not answer" });
    if (!models.indexed()) failed.push({ check: "models", detail: "the model repository is not indexed yet" });
    const ready = hosts.list().filter((host) => host.state === "ready").length;
    if (ready < this.#started(ready))
      failed.push({ check: "hosts", detail: `${ready} of ${expectedHosts} started workers have registered` });
    return failed;
  }

  #reachedExpected = false;

  /** Every started worker must have registered once; later losses are the sweeper's business, not a reason to stop answering. */
  #started(ready: number): number {
    if (ready >= this.#parts.expectedHosts) this.#reachedExpected = true;
    return this.#reachedExpected ? 0 : this.#parts.expectedHosts;
  }
}

function withNotice(record: JobRecord, notice: JobNotice): JobRecord {
  const ended: JobRecord = {
    ...record,
    state: notice.state,
    revision: notice.revision,
    fence: notice.fence,
    attempt: notice.attempt,
    finishedMs: notice.finishedMs,
    timings: {
      queueMs: (notice.startedMs || notice.finishedMs) - notice.createdMs,
      runMs: notice.runMs,
      totalMs: notice.finishedMs - notice.createdMs,
      batchItems: notice.batchItems,
    },
  };
  if (notice.startedMs) ended.startedMs = notice.startedMs;
  if (notice.error) ended.error = notice.error;
  return ended;
}

/** What a caller who held the line hears of an outcome other than success. */
function outcomeError(record: JobRecord): SwitchyardError {
  const detail = record.error?.detail ?? `the job is ${record.state}`;
  const facts = { jobId: record.id, extra: { state: record.state, error: record.error } };
  if (record.state === "expired") return new SwitchyardError("expired", detail, facts);
  if (record.state === "cancelled") return new SwitchyardError("cancelled", detail, facts);
  const code = record.error?.code;
  const known = code === "poison" || code === "input_lost" || code === "model_not_ready" ? code : "run_failed";
  return new SwitchyardError(known, detail, facts);
}

function recordOrGone(id: string, found: JobRecord | TombState | undefined): JobRecord {
  if (!found) throw jobNotFound(id);
  if (!("id" in found)) {
    const when = new Date(found.finishedMs).toISOString();
    throw new SwitchyardError("result_expired", `the job ended as ${found.state} at ${when}; its record is no longer kept`, {
      jobId: id,
      extra: { state: found.state, finished_at: when },
    });
  }
  return found;
}

function checkId(id: string): void {
  if (!jobIdPattern.test(id)) throw jobNotFound(id);
}

function jobNotFound(id: string): SwitchyardError {
  return new SwitchyardError("job_not_found", `no job ${id.slice(0, 60)}`);
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
