/**
 * What happens to a batch: stack, run once, split. A run that fails is halved on the spot until the item to blame stands alone,
 * so that one bad item never fails its neighbours.
 */

import { type CountedRun, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { LoadedModel } from "./loaded-model.ts";
import { RunFailure } from "./session.ts";
import { NotStackable, Scratch, split, stack } from "./stacking.ts";

export interface BatchJob {
  inputs: readonly Tensor[];
  /** First axis of the inputs; 1 for a model that is not batched. */
  items: number;
  /** Outputs asked for, in the order wanted; the model's own when absent. */
  outputs?: readonly string[];
}

/** `error.retryable` tells whether another attempt can end otherwise. */
export type BatchResult = { outputs: Tensor[] } | { error: SwitchyardError };

export interface BatchOutcome {
  /** One per job, in the jobs' order. */
  results: BatchResult[];
  /** Milliseconds inside the runtime, all runs together. */
  runMs: number;
  /** Runs of the model; 1 when all went well. */
  runs: number;
  /** Those that succeeded. */
  counted: CountedRun[];
}

/** What a batch needs of a loaded model. */
export type RunnableModel = Pick<LoadedModel, "session" | "batching" | "scratch" | "clock">;

/** Inputs of a batch, laid side by side, and how long that took. */
export interface StackedFeeds {
  feeds: readonly Tensor[];
  tookMs: number;
}

interface Entry {
  job: BatchJob;
  wanted: readonly string[];
  result?: BatchResult;
}

/**
 * Runs all jobs. One batch at a time per model: the stacked inputs share its memory. Outputs of jobs that ran together are
 * views on common memory. Throws only on a fault of Switchyard itself; whatever a job can cause is in its result.
 */
export async function runBatch(batch: {
  model: RunnableModel;
  jobs: readonly BatchJob[];
  /** Of all jobs together, as `stackAhead` has laid them. */
  feeds?: StackedFeeds;
}): Promise<BatchOutcome> {
  const { feeds, model, jobs } = batch;
  const modelOutputs = model.session.outputs.map((output) => output.name);
  const outcome: BatchOutcome = { results: [], runMs: 0, runs: 0, counted: [] };
  const entries = jobs.map((job): Entry => {
    const wanted = job.outputs ?? modelOutputs;
    const unknown = wanted.find((name) => !modelOutputs.includes(name));
    if (unknown === undefined && wanted.length > 0) return { job, wanted };
    const got = unknown === undefined ? "an empty list of outputs" : `output '${unknown}'`;
    const detail = `The model has no ${got}; it has ${modelOutputs.join(", ")}`;
    return { job, wanted, result: { error: new SwitchyardError("signature_mismatch", detail) } };
  });
  const runnable = entries.filter((entry) => entry.result === undefined);
  if (model.batching.maxItems > 1) await runTogether(model, runnable, outcome, runnable.length === jobs.length ? feeds : undefined);
  else for (const entry of runnable) await runTogether(model, [entry], outcome);
  outcome.results = entries.map((entry) => entry.result!);
  return outcome;
}

/**
 * Lays the inputs of a batch side by side before its turn has come, in memory that no other batch uses. Undefined where that is to be found out by
 * the run, or would not help.
 */
export function stackAhead(model: RunnableModel, jobs: readonly BatchJob[]): StackedFeeds | undefined {
  if (jobs.length < 2 || model.batching.maxItems <= 1 || model.scratch instanceof Scratch) return undefined;
  const startedMs = model.clock.monotonicMs();
  try {
    const feeds = stack(
      jobs.map(({ inputs }) => inputs),
      model.scratch,
    );
    return { feeds, tookMs: model.clock.monotonicMs() - startedMs };
  } catch {
    return undefined;
  }
}

async function runTogether(model: RunnableModel, entries: readonly Entry[], outcome: BatchOutcome, stacked?: StackedFeeds): Promise<void> {
  if (entries.length === 0) return;
  try {
    const outputs = await runOnce(model, entries, outcome, stacked);
    for (const [index, entry] of entries.entries()) entry.result = { outputs: outputs[index]! };
  } catch (error) {
    const fault = expectedFault(error);
    if (entries.length === 1 || (fault instanceof RunFailure && fault.concernsAll)) {
      for (const entry of entries) entry.result = { error: fault };
      return;
    }
    if (fault instanceof NotStackable) {
      // model.yaml promised what the graph does not keep: never try again.
      if (fault.faultOf === "model") model.batching = { maxItems: 1, reason: `runs of several items cannot be split: ${fault.message}` };
      for (const entry of entries) await runTogether(model, [entry], outcome);
      return;
    }
    const middle = entries.length >> 1;
    await runTogether(model, entries.slice(0, middle), outcome);
    await runTogether(model, entries.slice(middle), outcome);
  }
}

/** Per entry the outputs it wants, in its order. */
async function runOnce(
  model: RunnableModel,
  entries: readonly Entry[],
  outcome: BatchOutcome,
  stacked?: StackedFeeds,
): Promise<Tensor[][]> {
  const { session, clock } = model;
  const union = session.outputs.map((output) => output.name).filter((name) => entries.some((entry) => entry.wanted.includes(name)));
  const stackedMs = clock.monotonicMs();
  const feeds =
    stacked?.feeds ??
    stack(
      entries.map((entry) => entry.job.inputs),
      model.scratch,
    );
  const startedMs = clock.monotonicMs();
  outcome.runs += 1;
  let endedMs = startedMs;
  const produced = await session.run(feeds, union).finally(() => {
    endedMs = clock.monotonicMs();
    outcome.runMs += endedMs - startedMs;
  });
  const outputs = union.map((name) => produced.get(name)!);
  const shares = entries.length === 1 ? [outputs] : split(outputs, itemsOf(entries));
  outcome.counted.push({
    jobs: entries.length,
    // what is not batched has no items: its first axis may be time
    items: model.batching.maxItems > 1 ? entries.reduce((sum, { job }) => sum + job.items, 0) : entries.length,
    inputMs: stacked?.tookMs ?? startedMs - stackedMs,
    inferMs: endedMs - startedMs,
    outputMs: clock.monotonicMs() - endedMs,
  });
  return entries.map((entry, index) => entry.wanted.map((name) => shares[index]![union.indexOf(name)]!));
}

function itemsOf(entries: readonly Entry[]): number[] {
  return entries.map(({ job }) => job.inputs[0]?.shape[0] ?? job.items);
}

function expectedFault(error: unknown): SwitchyardError {
  if (error instanceof SwitchyardError) return error;
  // Memory that JavaScript could not get is the machine's want, like the runtime's own; halving the batch may help.
  if (error instanceof RangeError) return new RunFailure(`Not enough memory for the batch: ${error.message}`, { isTransient: true });
  throw error;
}
