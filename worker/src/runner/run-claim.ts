/** What happens to one claimed batch, top to bottom: read the inputs, run once, frame the outputs, say what became of each job. */

import { type CountedRun, decodeFrame, encodeFrame, frameExtra, type JobError, SwitchyardError, type Tensor } from "@switchyard/protocol";
import { type BatchJob, runBatch } from "../runtime/batch-run.ts";
import type { LoadedModel } from "../runtime/loaded-model.ts";
import { retryDelayMs } from "./backoff.ts";
import type { ClaimedJob, JobResult } from "./claims.ts";
import type { InputFrame } from "./large-values.ts";

export interface ClaimRun {
  results: JobResult[];
  runMs: number;
  items: number;
  /** Given to the model; 0 when it did not run. */
  jobs: number;
  /** Of the model; more than one where a batch failed and was halved. */
  runs: number;
  /** Those that succeeded. */
  counted: CountedRun[];
  /** The model had run nothing before but its warm-up. */
  isFirst: boolean;
}

const ranBefore = new WeakSet<LoadedModel>();

function jobError(error: unknown): JobError {
  if (error instanceof SwitchyardError) return { code: error.code, detail: error.message, retryable: error.retryable };
  return { code: "internal", detail: "the host failed while it ran the job", retryable: true };
}

export function failedResult(job: ClaimedJob, error: JobError, nowMs: number): JobResult {
  const { id, fence } = job;
  if (!error.retryable) return { id, fence, outcome: "failed", error };
  return { id, fence, outcome: "retry", error, retryDelayMs: retryDelayMs(job, job.deadlineMs - nowMs) };
}

/** Unrun, or run for nothing: the job keeps its place and its attempts. */
export function handBack({ id, fence }: { id: string; fence: number }): JobResult {
  return { id, fence, outcome: "back" };
}

/** `nowMs` is the store's clock at the claim. Never throws: what goes wrong is an outcome of a job. */
export async function runClaim(
  model: LoadedModel,
  jobs: readonly ClaimedJob[],
  frames: readonly InputFrame[],
  nowMs: number,
): Promise<ClaimRun> {
  const results = new Map<string, JobResult>();
  const ready: { job: ClaimedJob; batchJob: BatchJob }[] = [];
  for (const [at, job] of jobs.entries()) {
    const frame = frames[at];
    if (!frame) {
      const error = { code: "input_lost", detail: "the job's inputs are no longer in the store", retryable: false };
      results.set(job.id, { id: job.id, fence: job.fence, outcome: "failed", error });
      continue;
    }
    if (frame instanceof SwitchyardError) {
      results.set(job.id, failedResult(job, jobError(frame), nowMs));
      continue;
    }
    try {
      const extra = frameExtra(frame) as { o?: string[] } | undefined;
      ready.push({ job, batchJob: { inputs: decodeFrame(frame), items: job.items, ...(extra?.o ? { outputs: extra.o } : {}) } });
    } catch (error) {
      results.set(job.id, failedResult(job, jobError(error), nowMs));
    }
  }
  let [runMs, runs, counted]: [number, number, CountedRun[]] = [0, 0, []];
  const isFirst = !ranBefore.has(model);
  if (ready.length > 0) {
    ranBefore.add(model);
    try {
      const run = await runBatch({ model, jobs: ready.map((one) => one.batchJob) });
      ({ runMs, runs, counted } = run);
      for (const [at, { job }] of ready.entries()) {
        const result = run.results[at] as { outputs: Tensor[] } | { error: SwitchyardError };
        results.set(
          job.id,
          "outputs" in result
            ? { id: job.id, fence: job.fence, outcome: "succeeded", outputs: encodeFrame(result.outputs), ttlMs: job.ttlMs }
            : failedResult(job, jobError(result.error), nowMs),
        );
      }
    } catch (error) {
      for (const { job } of ready) results.set(job.id, failedResult(job, jobError(error), nowMs));
    }
  }
  const items = ready.reduce((sum, one) => sum + one.job.items, 0);
  const ranJobs = runs > 0 ? ready.length : 0;
  return { results: jobs.map((job) => results.get(job.id) as JobResult), runMs, items, jobs: ranJobs, runs, counted, isFirst };
}
