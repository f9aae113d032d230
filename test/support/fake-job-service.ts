/**
 * A job service in memory for tests of doors: honest about states, revisions, idempotency and waiting, without store or hosts. Jobs stay
 * queued until the test moves them, or run at once when `run` is given.
 */

import {
  type DurableTier,
  encodeFrame,
  isTerminal,
  type JobError,
  type JobState,
  type ModelVersion,
  SwitchyardError,
  type Tensor,
} from "@switchyard/protocol";
import { memberJobId, newJobId, queueTag } from "@switchyard/protocol/redis";
import type {
  Cancelled,
  JobInput,
  JobService,
  ModelEstimates,
  Settled,
  Submission,
  TenantWaiting,
} from "../../coordinator/src/application/job-service.ts";
import type { EndedAttempt, JobListFilter, JobPage, JobRecord, ValueSizes } from "../../coordinator/src/ports/job-store.ts";
import type { ModelRegistry, ModelStatus } from "../../coordinator/src/ports/model-registry.ts";

interface Held {
  record: JobRecord;
  attempts?: EndedAttempt[];
  inputs?: Tensor[];
  outputs?: Tensor[];
}

export class FakeJobService implements JobService {
  /** What a job answers at once; undefined leaves it queued. */
  run: ((submission: Submission) => Tensor[]) | undefined;
  /** Thrown by the next call of any method that asks for a job. */
  failure: unknown;
  /** What every job is expected to take, and the best that the store gives. */
  expected: number | undefined;
  strongest: DurableTier | undefined;
  /** Why no job is taken, whatever its inputs are. */
  closed: unknown;
  problems: { check: string; detail: string }[] = [];
  readonly submissions: Submission[] = [];
  readonly cancelled: string[] = [];
  readonly #models: ModelRegistry;
  readonly #jobs = new Map<string, Held>();
  readonly #keys = new Map<string, { fingerprint: string; id: string }>();
  readonly #watchers = new Set<() => void>();

  constructor(models: ModelRegistry) {
    this.#models = models;
  }

  async submit(submission: Submission): Promise<Settled> {
    this.#fail();
    const { version } = this.#models.resolve(submission.model, submission.version);
    const { idempotency } = submission;
    const earlier = idempotency && this.#keys.get(idempotency.key);
    if (earlier) {
      if (earlier.fingerprint !== idempotency.fingerprint)
        throw new SwitchyardError("idempotency_key_reused", "the key belongs to another request");
      return { record: this.#held(earlier.id).record, replayed: true };
    }
    const { member } = submission;
    const made = member && this.#jobs.get(memberJobId(member.of, member.index));
    if (made) return { record: made.record, replayed: true };
    const held = this.#keep(submission, version);
    if (idempotency) this.#keys.set(idempotency.key, { fingerprint: idempotency.fingerprint, id: held.record.id });
    if (this.run) this.end(held.record.id, "succeeded", { outputs: this.run(submission) });
    return { record: this.#held(held.record.id).record, replayed: false };
  }

  #keep(submission: Submission, version: ModelVersion): Held {
    const nowMs = Date.now();
    const record: JobRecord = {
      id: submission.member ? memberJobId(submission.member.of, submission.member.index) : newJobId(version.tag),
      state: "queued",
      revision: 1,
      fence: 0,
      attempt: 0,
      maxAttempts: submission.maxAttempts ?? 3,
      deaths: 0,
      model: version.model,
      version: version.version,
      class: submission.class ?? "standard",
      tenant: "default",
      createdMs: nowMs,
      deadlineMs: nowMs + (submission.timeoutMs ?? 60_000),
      ttlMs: 3_600_000,
      held: submission.hold,
    };
    if (submission.durability) record.durability = submission.durability;
    if (submission.tags) record.tags = submission.tags;
    if (submission.request.outputs) record.outputs = submission.request.outputs;
    if (submission.request.id) record.requestId = submission.request.id;
    this.submissions.push(submission);
    const held = { record, inputs: submission.request.inputs };
    this.#jobs.set(record.id, held);
    return held;
  }

  async earlier({ fingerprint, key }: { key: string; fingerprint: string }): Promise<JobRecord | undefined> {
    const bound = this.#keys.get(key);
    if (bound && bound.fingerprint !== fingerprint)
      throw new SwitchyardError("idempotency_key_reused", "the key belongs to another request");
    return bound && this.#held(bound.id).record;
  }

  requireOpen(): void {
    if (this.closed !== undefined) throw this.closed;
  }

  async infer(submission: Submission, _caller: unknown, signal: AbortSignal): Promise<Settled & { outputs: Tensor[] }> {
    if (this.run && !submission.idempotency) {
      this.#fail();
      const { version } = this.#models.resolve(submission.model, submission.version);
      const held = this.#keep(submission, version);
      this.#jobs.delete(held.record.id);
      return { record: held.record, replayed: false, outputs: this.run(submission) };
    }
    const { record, replayed } = await this.submit(submission);
    const ended = await this.wait(record.id, { waitMs: 60_000, signal });
    if (signal.aborted && !isTerminal(ended.state)) {
      if (!submission.idempotency) await this.cancel(record.id);
      throw new SwitchyardError("cancelled", "the caller went away before the job ended", { jobId: record.id });
    }
    const after = this.#held(record.id);
    if (after.record.state !== "succeeded") {
      const code = after.record.state === "expired" ? "expired" : after.record.state === "cancelled" ? "cancelled" : "run_failed";
      throw new SwitchyardError(code, after.record.error?.detail ?? `the job is ${after.record.state}`);
    }
    return { record: after.record, replayed, outputs: after.outputs ?? [] };
  }

  async get(id: string): Promise<JobRecord> {
    this.#fail();
    return this.#held(id).record;
  }

  async wait(id: string, how: { waitMs: number; afterRevision?: number; signal?: AbortSignal }): Promise<JobRecord> {
    this.#fail();
    const isOver = (): boolean => {
      const { record } = this.#held(id);
      return isTerminal(record.state) || (how.afterRevision !== undefined && record.revision !== how.afterRevision);
    };
    if (!isOver() && !how.signal?.aborted) {
      await new Promise<void>((resolve) => {
        const look = (): void => {
          if (isOver()) leave();
        };
        const leave = (): void => {
          clearTimeout(timer);
          this.#watchers.delete(look);
          resolve();
        };
        const timer = setTimeout(leave, how.waitMs);
        how.signal?.addEventListener("abort", leave);
        this.#watchers.add(look);
      });
    }
    return this.#held(id).record;
  }

  async history(id: string): Promise<{ record: JobRecord; attempts: EndedAttempt[] }> {
    return { record: await this.get(id), attempts: this.#held(id).attempts ?? [] };
  }

  async keep(id: string): Promise<void> {
    this.#held(id).record.held = false;
  }

  async outputs(record: JobRecord): Promise<Tensor[]> {
    const held = this.#held(record.id);
    if (!isTerminal(held.record.state))
      throw new SwitchyardError("job_not_finished", `the job is ${held.record.state}`, { extra: { state: held.record.state } });
    if (held.record.state !== "succeeded")
      throw new SwitchyardError("job_not_succeeded", `the job is ${held.record.state}`, { extra: { error: held.record.error } });
    return held.outputs ?? [];
  }

  async cancel(id: string): Promise<{ record: JobRecord; moved: boolean }> {
    const { state } = this.#held(id).record;
    if (!isTerminal(state)) {
      this.cancelled.push(id);
      this.end(id, "cancelled");
    }
    return { record: this.#held(id).record, moved: !isTerminal(state) || state === "cancelled" };
  }

  async cancelListed(filter: JobListFilter, _caller: unknown, { dryRun }: { dryRun: boolean }): Promise<Cancelled> {
    const { jobs, cursor } = await this.list(filter);
    const open = jobs.filter(({ state }) => !isTerminal(state));
    if (!dryRun) for (const { id } of open) await this.cancel(id);
    return { matched: open.length, cancelled: dryRun ? 0 : open.length, ...(cursor !== undefined && { cursor }) };
  }

  async inputs(id: string, _caller: unknown, { maxBytes }: { maxBytes: number }): Promise<JobInput[]> {
    const { inputs } = this.#held(id);
    if (!inputs) throw new SwitchyardError("inputs_expired", "the inputs of this job are gone", { jobId: id });
    const isSmall = encodeFrame(inputs).length <= maxBytes;
    return inputs.map((tensor) => {
      const { bytes, datatype, name, shape } = tensor;
      return { name, datatype, shape, sizeBytes: bytes.length, ...(isSmall && { tensor }) };
    });
  }

  async sizes(id: string): Promise<ValueSizes> {
    const { inputs, outputs } = this.#held(id);
    const bytesOf = (tensors: Tensor[]): number => encodeFrame(tensors).length;
    return { ...(inputs && { inputs: bytesOf(inputs) }), ...(outputs && { outputs: bytesOf(outputs) }) };
  }

  async list(filter: JobListFilter): Promise<JobPage> {
    const all = [...this.#jobs.values()].map(({ record }) => record).reverse();
    const from = filter.cursor === undefined ? 0 : Number(filter.cursor);
    const found = all.filter(
      (record) => (!filter.state || record.state === filter.state) && (!filter.model || record.model === filter.model),
    );
    const jobs = found.slice(from, from + filter.limit);
    return found.length > from + filter.limit ? { jobs, cursor: String(from + filter.limit) } : { jobs };
  }

  async states(ids: readonly string[]): Promise<Map<string, JobState>> {
    this.#fail();
    return new Map(ids.flatMap((id) => (this.#jobs.has(id) ? [[id, this.#held(id).record.state] as const] : [])));
  }

  async strongestTier(): Promise<DurableTier | undefined> {
    return this.strongest;
  }

  expectedMs(): number | undefined {
    return this.expected;
  }

  async estimates(model: string): Promise<ModelEstimates> {
    return { model, version: 1, networkMs: 0, devices: [] };
  }

  async waiting(): Promise<TenantWaiting[]> {
    const waiting = [...this.#jobs.values()].filter(({ record }) => record.state === "queued");
    return waiting.map(({ record: { tenant, model, version } }) => ({ tenant, model, version, jobs: 1 }));
  }

  unready(): { check: string; detail: string }[] {
    return [...this.problems];
  }

  /** The job was tried before, and waited again. */
  tried(id: string, attempts: EndedAttempt[]): void {
    this.#held(id).attempts = attempts;
  }

  /** Moves a queued job to running. */
  start(id: string): void {
    this.#move(id, "running", { attempt: 1, startedMs: Date.now(), hostId: "host-1" });
  }

  end(id: string, state: JobState, how: { outputs?: Tensor[]; error?: JobError } = {}): void {
    const held = this.#held(id);
    if (how.outputs) held.outputs = how.outputs;
    this.#move(id, state, {
      finishedMs: Date.now(),
      timings: { queueMs: 1, runMs: 2, totalMs: 3, batchItems: 1 },
      ...(how.error && { error: how.error }),
    });
  }

  #move(id: string, state: JobState, change: Partial<JobRecord>): void {
    const held = this.#held(id);
    held.record = { ...held.record, ...change, state, revision: held.record.revision + 1 };
    for (const look of [...this.#watchers]) look();
  }

  #held(id: string): Held {
    const held = this.#jobs.get(id);
    if (!held) throw new SwitchyardError("job_not_found", `no job ${id.slice(0, 60)}`);
    return held;
  }

  #fail(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

export function fakeModels(
  versions: Omit<ModelVersion, "tag" | "digest" | "sizeBytes" | "path" | "config">[],
  changes: Partial<ModelStatus> = {},
): ModelRegistry {
  const statuses = versions.map((about): ModelStatus => {
    const digest = `digest-${about.model}-${about.version}`;
    const version: ModelVersion = { ...about, digest, tag: queueTag(about.model, digest), sizeBytes: 1, path: "", config: {} };
    return {
      version,
      state: "ready",
      warmOn: ["host-1"],
      ...changes,
      ...(about.failure !== undefined && { state: "failed", reason: about.failure }),
    };
  });
  const resolve: ModelRegistry["resolve"] = (model, version) => {
    const known = statuses.filter((status) => status.version.model === model);
    if (known.length === 0) throw new SwitchyardError("model_not_found", `no model '${model.slice(0, 64)}'`);
    const found = version === undefined ? known.at(-1) : known.find((status) => status.version.version === version);
    if (found === undefined) throw new SwitchyardError("version_not_found", `'${model}' has no version ${version}`);
    return found;
  };
  return {
    list: () => statuses,
    versions: (model) => statuses.filter((status) => status.version.model === model).reverse(),
    resolve,
    usual: resolve,
    aliases: () => undefined,
    promised: () => [],
    shadowOf: () => undefined,
    byTag: (tag) => statuses.find((status) => status.version.tag === tag),
    versionOf: (tag) => statuses.find((status) => status.version.tag === tag)?.version,
    published: () => statuses.map((status) => status.version),
    tags: () => statuses.map((status) => status.version.tag),
    abandoned: () => [],
    mayTake: () => true,
    leaving: () => [],
    queuesOf: async (of) =>
      statuses.filter(({ version }) => of.model === undefined || version.model === of.model).map(({ version }) => version.tag),
    requiring: (version) => statuses.find((status) => status.version === version)!,
    openChoosy: async () => {},
    forgetChoosy: async () => false,
    indexed: () => true,
  };
}
