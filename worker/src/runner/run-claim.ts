/** What happens to one claimed batch, top to bottom: read the inputs, run once, frame the outputs, say what became of each job. */

import { type CountedRun, decodeFrame, encodeFrame, frameExtra, type JobError, SwitchyardError } from "@switchyard/protocol";
import { type BatchJob, runBatch, type StackedFeeds, stackAhead } from "../runtime/batch-run.ts";
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

/** Jobs of a claim as a model takes them. */
export interface ReadClaim {
  /** In the places of jobs that cannot be run: what became of them. */
  results: JobResult[];
  /** What can be run, and the places of its jobs. */
  ready: BatchJob[];
  places: number[];
  items: number;
  /** Where they were laid side by side already. */
  feeds?: StackedFeeds;
}

/** `nowMs` is the store's clock at the claim. `stackFor`: the model whose run will take them, to lay them side by side now. */
export function readClaim(
  jobs: readonly ClaimedJob[],
  frames: readonly InputFrame[],
  { nowMs, stackFor }: { nowMs: number; stackFor?: LoadedModel },
): ReadClaim {
  const read: ReadClaim = { results: new Array(jobs.length), ready: [], places: [], items: 0 };
  for (const [at, job] of jobs.entries()) {
    const frame = frames[at];
    if (!frame) {
      const error = { code: "input_lost", detail: "the job's inputs are no longer in the store", retryable: false };
      read.results[at] = { id: job.id, fence: job.fence, outcome: "failed", error };
      continue;
    }
    if (frame instanceof SwitchyardError) {
      read.results[at] = failedResult(job, jobError(frame), nowMs);
      continue;
    }
    try {
      const extra = frameExtra(frame) as { o?: string[] } | undefined;
      const batchJob: BatchJob = { inputs: decodeFrame(frame), items: job.items };
      if (extra?.o) batchJob.outputs = extra.o;
      read.ready.push(batchJob);
      read.places.push(at);
      read.items += job.items;
    } catch (error) {
      read.results[at] = failedResult(job, jobError(error), nowMs);
    }
  }
  const feeds = stackFor && stackAhead(stackFor, read.ready);
  return feeds ? { ...read, feeds } : read;
}

/**
 * `nowMs` is the store's clock at the claim; `freed` is called when the model has run. Never throws: what goes wrong is an outcome of a job.
 */
export async function runClaim(
  model: LoadedModel,
  jobs: readonly ClaimedJob[],
  { feeds, items, places, ready, results }: ReadClaim,
  { freed, nowMs }: { nowMs: number; freed: () => void },
): Promise<ClaimRun> {
  let [runMs, runs, counted]: [number, number, CountedRun[]] = [0, 0, []];
  const isFirst = !ranBefore.has(model);
  if (ready.length > 0) {
    ranBefore.add(model);
    try {
      const run = await runBatch({ model, jobs: ready, ...(feeds && { feeds }) });
      freed();
      ({ runMs, runs, counted } = run);
      for (const [index, result] of run.results.entries()) {
        const at = places[index]!;
        const job = jobs[at]!;
        results[at] =
          "outputs" in result
            ? { id: job.id, fence: job.fence, outcome: "succeeded", outputs: encodeFrame(result.outputs), ttlMs: job.ttlMs }
            : failedResult(job, jobError(result.error), nowMs);
      }
    } catch (error) {
      for (const at of places) results[at] = failedResult(jobs[at]!, jobError(error), nowMs);
    }
  }
  const ranJobs = runs > 0 ? ready.length : 0;
  return { results, runMs, items, jobs: ranJobs, runs, counted, isFirst };
}
