/**
 * The job service: hands submissions on, waits for outcomes, answers for any job of any coordinator. Holds no state that another coordinator could not
 * rebuild: waits are repeated from records.
 */

import {
  checkInputs,
  type DurableTier,
  decodeFrame,
  defaultAlias,
  framedTensors,
  type InferRequest,
  isTerminal,
  type JobState,
  type ModelVersion,
  SwitchyardError,
  sizeClassOf,
  type Tensor,
} from "@switchyard/protocol";
import { jobIdPattern } from "@switchyard/protocol/redis";
import type { DurableStore } from "../ports/durable-store.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { EndedAttempt, JobListFilter, JobPage, JobRecord, JobStore, ValueSizes } from "../ports/job-store.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import { type Caller, listedTenant, mayUse, requireModel, requireScope } from "./caller.ts";
import { DurableJobs } from "./durable-jobs.ts";
import { outcomeError, withNotice } from "./job-outcomes.ts";
import { JobRecords, jobNotFound } from "./job-records.ts";
import type { Cancelled, JobInput, JobService, ModelEstimates, Settled, Submission, TenantWaiting } from "./job-service.ts";
import { Readiness, type ReadinessParts } from "./readiness.ts";
import type { Shadows } from "./shadows.ts";
import { type Placed, Submissions, type SubmissionsParts } from "./submissions.ts";
import { Turns } from "./turns.ts";
import type { Leaving } from "./waiters.ts";

const neverAborted = new AbortController().signal;
/** Of a bulk change: it shares the store's connection with jobs that somebody waits for. */
const cancelledAtOnce = 100;
/** More than the header of a frame takes whose tensors have names of usual length. */
const headerBytes = 262_144;
/** Of one caller: each looks at up to 10,000 records, one after another. */
const mostListsInLine = 16;

export interface JobsParts extends Omit<SubmissionsParts, "durable" | "records" | "hosts">, ReadinessParts {
  store: JobStore;
  models: ModelRegistry;
  hosts: HostRegistry;
  /** Absent: no tier but fast is given. */
  durable?: DurableStore;
  /** Absent: nothing is sent to a second version. */
  shadows?: Shadows;
}

export class Jobs implements JobService {
  readonly #parts: JobsParts;
  readonly #durable: DurableJobs;
  readonly #records: JobRecords;
  readonly #submissions: Submissions;
  readonly #readiness: Readiness;
  readonly #lists = new Turns(mostListsInLine);

  constructor(parts: JobsParts) {
    this.#parts = parts;
    this.#durable = new DurableJobs(parts.durable);
    this.#records = new JobRecords(parts.store, this.#durable);
    this.#submissions = new Submissions({ ...parts, durable: this.#durable, records: this.#records });
    this.#readiness = new Readiness(parts);
  }

  async submit(submission: Submission, caller: Caller): Promise<Settled> {
    const { record, replayed } = await this.#submissions.place(submission, caller, undefined);
    if (!replayed) this.#shadow(submission, caller);
    return { record: await this.#records.acknowledged(record), replayed };
  }

  async earlier(idempotency: NonNullable<Submission["idempotency"]>, caller: Caller): Promise<JobRecord | undefined> {
    const record = await this.#submissions.earlier(idempotency, caller);
    return record && this.#records.told(record);
  }

  requireOpen(of: Pick<Submission, "model" | "version" | "alias">, caller: Caller): void {
    this.#submissions.requireOpen(of, caller);
  }

  async infer(submission: Submission, caller: Caller, signal: Leaving): Promise<Settled & { outputs: Tensor[] }> {
    const placed = await this.#submissions.place(submission, caller, signal);
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

  async #settled(placed: Placed, submission: Submission, caller: Caller, signal: Leaving): Promise<Settled & { outputs: Tensor[] }> {
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
      : await this.#records.told(hasEnded ? placed.record : await this.#records.watched(id, caller));
    if (!isTerminal(record.state)) {
      if (wake?.kind === "time") throw new SwitchyardError("cancelled", "the caller went away before the job ended", { jobId: id });
      const detail = `the outcome of job ${id} was lost with the server that had it, and the job goes on: ask again with its id or key`;
      throw new SwitchyardError("store_unavailable", detail, { jobId: id, retryAfterMs: 1_000 });
    }
    if (record.state !== "succeeded") throw outcomeError(record);
    const frame = notice?.outputs ?? placed.outputs;
    return { record, replayed: placed.replayed, outputs: frame ? decodeFrame(frame) : await this.outputs(record) };
  }

  async get(id: string, caller: Caller): Promise<JobRecord> {
    checkId(id);
    return this.#records.get(id, caller);
  }

  async history(id: string, caller: Caller): Promise<{ record: JobRecord; attempts: EndedAttempt[] }> {
    const record = await this.get(id, caller);
    // the record first: an attempt that ends between the two is then told twice over, and told once by its fence
    return { record, attempts: record.fence === 0 ? [] : await this.#parts.store.attempts(id) };
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
        const record = await this.#records.watched(id, caller);
        waiters.setDeadline(id, record.deadlineMs);
        const changed = how.afterRevision !== undefined && record.revision !== how.afterRevision;
        if (isTerminal(record.state) || changed || signal.aborted) {
          const told = await this.#records.told(record);
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
    return { ...cancelled, record: await this.#records.told(cancelled.record) };
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

  async sizes(id: string, caller: Caller): Promise<ValueSizes> {
    const record = await this.get(id, caller);
    const { inputs, outputs } = await this.#parts.store.sizes(id, record.fence);
    // what a run left behind that did not end the job is no result
    return { ...(inputs !== undefined && { inputs }), ...(outputs !== undefined && record.state === "succeeded" && { outputs }) };
  }

  async inputs(id: string, caller: Caller, { maxBytes }: { maxBytes: number }): Promise<JobInput[]> {
    const { store } = this.#parts;
    const record = await this.get(id, caller);
    const { inputs: sizeBytes = 0 } = await store.sizes(id, record.fence);
    if (sizeBytes > maxBytes) {
      const beginning = await store.inputsBeginning(id, headerBytes);
      if (beginning) return framedTensors(beginning);
    }
    const frame = await store.inputs(id);
    if (frame) {
      return decodeFrame(frame).map((tensor) => {
        const { bytes, datatype, name, shape } = tensor;
        return { name, datatype, shape, sizeBytes: bytes.length, tensor };
      });
    }
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
    const page = await this.#lists.take(caller.keyId ?? caller.tenant, () =>
      store.list(tags, { ...others, ...(tenant !== undefined && { tenant }) }),
    );
    return { ...page, jobs: await this.#durable.listed(page.jobs) };
  }

  async states(ids: readonly string[]): Promise<Map<string, JobState>> {
    const seen = await this.#parts.store.peek(ids);
    return new Map([...seen].map(([id, { state }]) => [id, state]));
  }

  strongestTier(): Promise<DurableTier | undefined> {
    return this.#durable.strongest();
  }

  expectedMs(version: ModelVersion, { jobs = 1, request }: { request: InferRequest; jobs?: number }): number | undefined {
    const checked = checkInputs(request.inputs, version.signature);
    const size = sizeClassOf(checked, version.signature);
    return this.#parts.forecasts.doneInMs(version.tag, { size, items: checked.items, jobs });
  }

  async estimates(model: string, version: number | string | undefined): Promise<ModelEstimates> {
    const { forecasts, models } = this.#parts;
    const { version: found } = models.usual(model, version);
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
    return this.#readiness.unready();
  }
}

function checkId(id: string): void {
  if (!jobIdPattern.test(id)) throw jobNotFound(id);
}
