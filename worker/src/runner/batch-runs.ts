/**
 * What a host does with a claimed batch until it can be committed: read its inputs, look at its deadlines once more, run it, and put outputs away that
 * are too large for the commit. Commits and claims are the runner's.
 */

import type { CountedRun, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { LoadedModel } from "../runtime/loaded-model.ts";
import type { ClaimAnswer, ClaimedJob, Claims, JobResult } from "./claims.ts";
import { FrameMemory } from "./input-files.ts";
import type { InputFrame, LargeValues } from "./large-values.ts";
import { splitLate } from "./late-jobs.ts";
import type { RunSample } from "./messages.ts";
import { failedResult, handBack, type ReadClaim, readClaim, runClaim } from "./run-claim.ts";
import type { RunFigures, RunSeen } from "./run-figures.ts";

/** An exchange that got no reply is repeated after this time. */
export const retryExchangeMs = 200;

/** `sentMs`: when the claim was sent, by the local clock. */
export type Batch = ClaimAnswer & { kind: "batch"; sentMs: number };

/** A batch whose inputs are here. */
export interface ReadyBatch {
  claim: Batch;
  model: LoadedModel;
  /** Absent: they could not be had until the last deadline, or before the host is to end. */
  frames?: InputFrame[];
  /** Laid side by side already; only where the model runs beside this thread. */
  read?: ReadClaim;
}

export interface Run {
  results: JobResult[];
  runMs: number;
  items: number;
  /** That the model ran; 0 when nothing did. */
  jobs: number;
  /** Jobs that were over when the run began: there should be none. */
  startedLate: number;
  sample?: RunSample;
  /** Runs that succeeded. */
  counted: CountedRun[];
  /** When it began, by the local clock; absent where nothing ran. */
  beganMs?: number;
}

export interface BatchRunsParts {
  claims: Pick<Claims, "inputs">;
  largeValues: Pick<LargeValues, "fetched" | "stored">;
  clock: Pick<Clock, "monotonicMs" | "sleep">;
  figures: RunFigures;
  /** The host is to end: nothing is waited for. */
  isEnding: () => boolean;
}

export class BatchRuns {
  readonly #parts: BatchRunsParts;
  /** Of the batch that is made ready, and of the one that may run meanwhile: when it fails, it is looked at again. */
  #memory = new FrameMemory();
  #runningMemory = new FrameMemory();

  constructor(parts: BatchRunsParts) {
    this.#parts = parts;
  }

  /** `deadlineOffsetMs`: what makes a deadline one by the local clock. */
  async ready(tag: string, claim: Batch, how: { model: LoadedModel; deadlineOffsetMs: number }): Promise<ReadyBatch> {
    const { model } = how;
    if (model.isBeside) [this.#memory, this.#runningMemory] = [this.#runningMemory, this.#memory];
    const frames = await this.#inputs(tag, claim, how.deadlineOffsetMs);
    if (!frames) return { claim, model };
    if (!model.isBeside) return { claim, model, frames };
    return { claim, model, frames, read: readClaim(claim.jobs, frames, { nowMs: claim.nowMs, stackFor: model }) };
  }

  async #inputs(tag: string, claim: Batch, deadlineOffsetMs: number): Promise<InputFrame[] | undefined> {
    const { claims, clock, isEnding, largeValues } = this.#parts;
    const ids = claim.jobs.map(({ id }) => id);
    const again = (places: readonly number[]) =>
      claims.inputs(
        tag,
        places.map((at) => claim.jobs[at]!),
      );
    const memory = this.#memory;
    let came = claim.inputs;
    for (;;) {
      try {
        return await largeValues.fetched(ids, came ?? (await claims.inputs(tag, claim.jobs)), { again, memory });
      } catch {
        came = undefined; // they may stand elsewhere by then
        const untilMs = Math.max(...claim.jobs.map(({ deadlineMs }) => deadlineMs)) + deadlineOffsetMs;
        if (isEnding() || clock.monotonicMs() >= untilMs) return undefined;
        await clock.sleep(retryExchangeMs);
      }
    }
  }

  /** `freed` is called when the model has run, and before its outputs are looked at. */
  async run(tag: string, { claim, frames, model, read }: ReadyBatch, freed: () => void = () => {}): Promise<Run> {
    const { clock, figures, largeValues } = this.#parts;
    if (!frames) return handedBack(claim);
    const size = claim.jobs[0]?.size ?? 0;
    // never earlier than the store's clock: the claim ran after it was sent
    const nowMs = claim.nowMs + clock.monotonicMs() - claim.sentMs;
    const { inTime, late } = splitLate(claim.jobs, { nowMs, ladder: figures.ladders(tag, nowMs).get(size) });
    const kept = late.length === 0 ? frames : frames.filter((_frame, at) => inTime.includes(claim.jobs[at] as ClaimedJob));
    const given = late.length === 0 && read ? read : readClaim(inTime, kept, { nowMs: claim.nowMs });
    const beganMs = clock.monotonicMs();
    const startMs = claim.nowMs + beganMs - claim.sentMs;
    let startedLate = 0;
    for (const { deadlineMs } of inTime) if (deadlineMs <= startMs) startedLate += 1;
    const { results, runMs, items, jobs, runs, counted, isFirst } = await runClaim(model, inTime, given, { nowMs: claim.nowMs, freed });
    const isSample = !isFirst && runs === 1 && results.every(({ outcome }) => outcome === "succeeded");
    const seen: RunSeen = { runMs, items, bytes: bytesOf(kept, results), size, atMs: claim.nowMs, isSample };
    figures.ran(tag, seen);
    const stored = await largeValues.stored(results, (result, why) => unstored(result, why, claim));
    const all = late.length === 0 ? stored : [...stored, ...late.map(tooLate)];
    const run: Run = { results: all, runMs, items, jobs, startedLate, counted, beganMs };
    if (isSample) run.sample = { size, items, runMs, atMs: claim.nowMs };
    return run;
  }
}

const nothingRan = { runMs: 0, items: 0, jobs: 0, startedLate: 0 };

/** Its jobs keep their places and their attempts. */
export function handedBack({ jobs }: Batch): Run {
  return { ...nothingRan, results: jobs.map(handBack), counted: [] };
}

/** There is no model to run it. */
export function unready(claim: Batch, why: SwitchyardError): Run {
  const error = { code: "model_not_ready", detail: why.message, retryable: true };
  return { ...nothingRan, results: claim.jobs.map((job) => failedResult(job, error, claim.nowMs)), counted: [] };
}

function tooLate({ id, fence }: ClaimedJob): JobResult {
  return { id, fence, outcome: "late" };
}

function unstored(result: JobResult, why: SwitchyardError, claim: Batch): JobResult {
  const job = claim.jobs.find(({ id }) => id === result.id);
  if (!job) throw new Error(`job ${result.id} is not of this claim`);
  return failedResult(job, { code: why.code, detail: why.message, retryable: why.retryable }, claim.nowMs);
}

function bytesOf(frames: readonly InputFrame[], results: readonly JobResult[]): number {
  let sum = 0;
  for (const frame of frames) if (frame instanceof Uint8Array) sum += frame.length;
  for (const result of results) if (result.outcome === "succeeded") sum += result.outputs.length;
  return sum;
}
