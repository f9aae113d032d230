/** `infer_batch`: one model over many items, each a job of its own, so that hosts share them and one that fails takes no other with it. */

import type { Tool } from "@modelcontextprotocol/server";
import { isTerminal, SwitchyardError } from "@switchyard/protocol";
import { requireModel } from "../../application/caller.ts";
import type { Submission } from "../../application/job-service.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import type { ModelStatus } from "../../ports/model-registry.ts";
import type { VersionName } from "../held-inference.ts";
import { argumentCheck } from "./argument-check.ts";
import { batchOutcome, batchSchema } from "./batch-results.ts";
import {
  abandonBatch,
  batchIdsOf,
  batchStanding,
  cancelBatch,
  mostBatchItems,
  type NewBatch,
  standingText,
  submitBatch,
} from "./batches.ts";
import { isTask, keyArgument, modelArguments, taskArgument, timeoutArgument } from "./call-terms.ts";
import { taskTerms, workingTask } from "./job-tasks.ts";
import { PixelBudget } from "./png-pixels.ts";
import { taskResult } from "./task-protocol.ts";
import { missingInputs, requestOf } from "./tensor-arguments.ts";
import { schemaOf, type ToolAnswer, type ToolCall, type ToolHandler } from "./tool.ts";
import { chosenModel, inferenceHints, submissionOf } from "./tool-infer.ts";

const properties = {
  ...modelArguments,
  items: {
    type: "array",
    minItems: 1,
    maxItems: mostBatchItems,
    items: { type: "object", description: "one run's inputs, as `inputs` of infer" },
  },
  ...timeoutArgument,
  ...keyArgument,
  ...taskArgument,
};
const check = argumentCheck(schemaOf(properties, ["items"]));

/** Items are read for so long before others are served. */
const atOnceMs = 10;
/** How long a call is waited for at a time; then it is looked whether it still is. */
const lookMs = 60_000;

export const batchTool: ToolHandler = {
  definition: {
    name: "infer_batch",
    title: "Run a model on many items",
    description: `Runs a model on up to ${mostBatchItems} items and answers the outputs of each. Work without hurry: it waits behind other calls.`,
    inputSchema: schemaOf(properties, ["model", "items"]),
    outputSchema: batchSchema as Tool["outputSchema"],
    annotations: { title: "Run a model on many items", ...inferenceHints },
  },
  scopes: ["submit"],
  async call(call) {
    check(call.args);
    const chosen = await chosenModel(call);
    if ("question" in chosen) return chosen.question;
    const { caller, context } = call;
    requireModel(caller, chosen.model);
    const status = context.models.resolve(chosen.model, call.args.version as VersionName);
    const { model, version } = status.version;
    // a repeat may be answered although no other job is taken
    if (call.args.idempotency_key === undefined) context.jobs.requireOpen({ model, version }, caller);
    const items = await submissionsOf(call, status);
    const { request } = items[0]!;
    const expectedMs = context.jobs.expectedMs(status.version, { request, jobs: items.length });
    // a batch of which nothing is known may take long
    if (!isTask(call, () => expectedMs ?? Number.POSITIVE_INFINITY)) return heldBatch(call, { items, expectedMs });
    const terms = await taskTerms(call);
    const batch = { items: items.map((item) => ({ ...item, ...terms })), expectedMs };
    const { record: lead, replayed } = await submitBatch(context, caller, batch);
    // an earlier call's that is not as safe as a task has to be
    if (lead.durability !== terms.durability) return heldBatch(call, batch);
    const standing = replayed ? await batchStanding(context, lead) : undefined;
    if (standing && standing.ended === standing.total) return (await batchOutcome(context, caller, lead)).result;
    return taskResult(workingTask(context, lead, standing ? standingText(standing) : `0 of ${items.length} items done`));
  },
};

/**
 * All of them are read and checked before the first is submitted, some at a time: others are served in between. Throws what is wrong with one,
 * naming it, and what has made the rest needless.
 */
async function submissionsOf(call: ToolCall, status: ModelStatus): Promise<Submission[]> {
  const version = call.args.version as VersionName;
  const { clock } = call.context;
  const pixels = new PixelBudget();
  const given = call.args.items as Record<string, unknown>[];
  const exactItems = (): Record<string, unknown>[] | undefined => call.exactArgs()?.items as Record<string, unknown>[] | undefined;
  const read: Submission[] = [];
  let sinceMs = clock.monotonicMs();
  for (const [at, values] of given.entries()) {
    if (clock.monotonicMs() - sinceMs > atOnceMs) {
      await clock.sleep(0);
      refuseNeedless(call);
      sinceMs = clock.monotonicMs();
    }
    const inputs = { values, at: `/items/${at}`, exact: () => exactItems()?.[at], pixels };
    const [missing] = missingInputs(inputs, status.version);
    if (missing !== undefined) {
      throw new SwitchyardError("signature_mismatch", `item ${at} lacks the input ${missing.name}`, {
        fields: [{ pointer: `/items/${at}/${missing.name}`, expected: missing.datatype, got: "nothing" }],
      });
    }
    const request = ofItem(at, () => requestOf(inputs, status.version));
    read.push({ ...submissionOf(call, { request, status, version, inputs: at === 0 ? given : [] }), class: "batch" });
  }
  return read;
}

function refuseNeedless({ context, line }: ToolCall): void {
  if (line.isGone()) throw new SwitchyardError("cancelled", "the caller went away before the batch was submitted");
  if (context.draining()) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
}

function ofItem<Read>(at: number, read: () => Read): Read {
  try {
    return read();
  } catch (error) {
    if (error instanceof SwitchyardError) throw new SwitchyardError(error.code, `item ${at}: ${error.message}`, error.facts);
    throw error;
  }
}

async function heldBatch(call: ToolCall, batch: NewBatch): Promise<ToolAnswer> {
  const { caller, context, line, progress } = call;
  const { items } = batch;
  const keyed = items[0]!.idempotency !== undefined;
  const { record: lead } = await submitBatch(context, caller, batch);
  const open = context.calls.held(line);
  const over = new AbortController();
  try {
    await progress.during(`running ${items.length} items`, allEnded(call, lead, AbortSignal.any([open.signal, over.signal])));
    if (!open.signal.aborted) return (await batchOutcome(context, caller, lead)).result;
    if (!keyed) await cancelBatch(context, caller, lead);
  } catch (error) {
    if (!keyed) void abandonBatch(context, caller, lead);
    throw error instanceof SwitchyardError ? lost(error, lead, keyed) : error;
  } finally {
    over.abort(); // the other waits, where one failed
    open.end();
  }
  if (!open.toldToGo()) throw new SwitchyardError("cancelled", "the caller went away before the batch ended", { jobId: lead.id });
  const what = keyed ? "the batch goes on: call again with the same idempotency_key" : "the batch was cancelled: call again";
  throw new SwitchyardError("draining", `This coordinator is shutting down; ${what}`, { jobId: lead.id });
}

/** What a caller hears whose batch this coordinator cannot wait for any more. */
function lost({ code, facts, message }: SwitchyardError, lead: JobRecord, keyed: boolean): SwitchyardError {
  const what = keyed ? "the batch goes on: call again with the same idempotency_key" : "the batch is cancelled";
  return new SwitchyardError(code, `${message}; ${what}`, { ...facts, jobId: lead.id });
}

/** Until every job has ended, or the signal aborts. */
async function allEnded({ caller, context, progress }: ToolCall, lead: JobRecord, signal: AbortSignal): Promise<void> {
  const ids = batchIdsOf(lead);
  let ended = 0;
  await Promise.all(
    ids.map(async (id) => {
      let record = await context.jobs.wait(id, { waitMs: lookMs, signal }, caller);
      while (!isTerminal(record.state) && !signal.aborted) record = await context.jobs.wait(id, { waitMs: lookMs, signal }, caller);
      if (signal.aborted) return;
      ended += 1;
      progress.report(ended, { total: ids.length, message: `${ended} of ${ids.length} items done` });
    }),
  );
}
