/**
 * Jobs that are submitted again after their end. A terminal record never changes, so a retry is a new job; an idempotency key made of the old
 * job's id ties the two together: whoever repeats a retry, or goes on after a coordinator that died in the midst of one, gets the same new job.
 */

import { decodeFrame, isTerminal, SwitchyardError } from "@switchyard/protocol";
import { firstPage, type JobListFilter, type JobRecord, type JobStore } from "../ports/job-store.ts";
import type { Caller } from "./caller.ts";
import type { DurableJobs } from "./durable-jobs.ts";
import type { DeadLetter, DeadLetterService, JobService, Requeued, Settled, Submission } from "./job-service.ts";

/** As no client would name one. */
const keyOf = (id: string): string => `\u0000retry ${id}`;

interface Parts {
  jobs: Pick<JobService, "get" | "list" | "submit">;
  durable: Pick<DurableJobs, "acknowledged">;
  store: Pick<JobStore, "boundKey" | "discard" | "inputs" | "inputsKept" | "watch">;
}

export class DeadLetters implements DeadLetterService {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async list(filter: JobListFilter, caller: Caller): Promise<{ letters: DeadLetter[]; cursor?: string }> {
    const { jobs, store } = this.#parts;
    const { jobs: records, ...rest } = await jobs.list({ ...filter, dead: true }, caller);
    const kept = await store.inputsKept(records.map(({ id }) => id));
    return { letters: records.map((record) => ({ record, inputsKept: kept.has(record.id) })), ...rest };
  }

  async retry(id: string, caller: Caller): Promise<Settled> {
    const { jobs, store } = this.#parts;
    const record = await jobs.get(id, caller);
    checkMayRetry(record);
    const settled = (await this.#earlier(id, caller)) ?? (await this.#again(record, caller));
    // only now: until the new job is there, the inputs have no other place
    await store.discard(id);
    return settled;
  }

  async #again(record: JobRecord, caller: Caller): Promise<Settled> {
    const submission = await this.#submissionOf(record);
    if (submission) return await this.#parts.jobs.submit(submission, caller);
    // somebody else may have retried it in this very moment, and discarded the inputs
    const settled = await this.#earlier(record.id, caller);
    if (settled) return settled;
    throw inputsGone(record);
  }

  /** The job that an earlier retry made. */
  async #earlier(id: string, caller: Caller): Promise<Settled | undefined> {
    const { durable, store } = this.#parts;
    const bound = await store.boundKey({ tenant: caller.tenant, name: keyOf(id) });
    const found = bound?.fingerprint === id && (await store.watch(bound.jobId));
    const record = found && "id" in found && (await durable.acknowledged(found));
    return record && "id" in record ? { record, replayed: true } : undefined;
  }

  /** Nothing when its inputs are gone. */
  async #submissionOf(record: JobRecord): Promise<Submission | undefined> {
    const { id, model, version, createdMs, deadlineMs, maxAttempts } = record;
    const frame = await this.#parts.store.inputs(id);
    if (!frame) return undefined;
    return {
      ...{ model, version, maxAttempts, class: record.class, timeoutMs: deadlineMs - createdMs, hold: false, retryOf: id },
      ...(record.deaths > 0 && { alone: true }),
      ...(record.tags && { tags: record.tags }),
      ...(record.durability && { durability: record.durability }),
      ...(record.trace && { trace: record.trace.context }),
      request: {
        parameters: {},
        binaryDefault: false,
        inputs: decodeFrame(frame),
        ...(record.outputs && { outputs: record.outputs }),
        ...(record.requestId !== undefined && { id: record.requestId }),
      },
      idempotency: { key: keyOf(id), fingerprint: id },
    };
  }

  async requeue(filter: JobListFilter, caller: Caller): Promise<{ requeued: Requeued[]; cursor?: string }> {
    const { letters, ...rest } = await this.list(filter, caller);
    const requeued: Requeued[] = [];
    for (const { record } of letters) {
      const { id } = record;
      try {
        requeued.push({ id, retriedAs: (await this.retry(id, caller)).record.id });
      } catch (error) {
        if (!(error instanceof SwitchyardError)) throw error;
        requeued.push({ id, refused: error });
        // those that were submitted again are off the list, so the same page begins with what is left
        if (error.code === "store_unavailable" || error.code === "store_full") return { requeued, cursor: filter.cursor || firstPage };
      }
    }
    return { requeued, ...rest };
  }

  async discard(id: string, caller: Caller): Promise<DeadLetter> {
    const { jobs, store } = this.#parts;
    const record = await jobs.get(id, caller);
    if (!(await store.discard(id)))
      throw new SwitchyardError("not_found", `job ${id} is ${record.state} and no dead letter`, { jobId: id });
    return { record, inputsKept: false };
  }
}

function checkMayRetry({ id, state }: JobRecord): void {
  const facts = { jobId: id, extra: { state } };
  if (!isTerminal(state))
    throw new SwitchyardError("job_not_finished", `the job is ${state}; only a job that has ended can be retried`, facts);
  if (state !== "succeeded") return;
  throw new SwitchyardError("job_already_ended", "the job has succeeded; to run it again, submit it anew", facts);
}

function inputsGone({ error, id, state }: JobRecord): SwitchyardError {
  const why = error ? `${state} (${error.code})` : state;
  const detail = `the inputs of this job are gone; it is ${why}, and only dead letters keep theirs, for a day. Submit it anew`;
  return new SwitchyardError("inputs_expired", detail, { jobId: id, extra: { state } });
}
