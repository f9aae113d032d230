/** What became of the jobs of a batch, item by item, as one tool's result. */

import type { CallToolResult } from "@modelcontextprotocol/server";
import { type JobState, SwitchyardError } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import type { DoorContext } from "../door-context.ts";
import { batchIdsOf } from "./batches.ts";
import { failureIn, outcomeOf } from "./job-results.ts";
import { resourceUris } from "./resource-uris.ts";
import { mostInlineBytes, resultOf } from "./tensor-results.ts";

/** Results that are read and encoded at once. */
const atOnce = 16;

const item = {
  type: "object",
  properties: {
    job_id: { type: "string" },
    state: { type: "string" },
    outputs: { type: "object" },
    classes: { type: "object" },
    output_uri: { type: "string" },
    error: { type: "object" },
  },
  required: ["job_id", "state"],
};

export const batchSchema = {
  type: "object",
  properties: {
    model: { type: "string" },
    version: { type: "integer" },
    succeeded: { type: "integer" },
    failed: { type: "integer" },
    items: { type: "array", items: item, description: "in the order of the call's items" },
  },
  required: ["model", "version", "succeeded", "failed", "items"],
};

type Item = { job_id: string; state: JobState } & Record<string, unknown>;

export interface BatchOutcome {
  result: CallToolResult;
  /** Whether somebody cancelled any of it. */
  isCancelled: boolean;
  finishedMs: number;
}

/** Of a batch whose jobs have all ended. Outputs that are too many for one answer are linked to, all of them. */
export async function batchOutcome(context: DoorContext, caller: Caller, lead: JobRecord): Promise<BatchOutcome> {
  const ids = batchIdsOf(lead);
  const items: Item[] = [];
  let finishedMs = lead.finishedMs ?? lead.createdMs;
  for (let from = 0; from < ids.length; from += atOnce) {
    const some = await Promise.all(ids.slice(from, from + atOnce).map((id) => itemOf(context, caller, id)));
    for (const { item: one, record } of some) {
      items.push(one);
      finishedMs = Math.max(finishedMs, record?.finishedMs ?? 0);
    }
  }
  const succeeded = items.filter(({ state }) => state === "succeeded").length;
  const about = { model: lead.model, version: lead.version, succeeded, failed: items.length - succeeded };
  const whole = { ...about, items };
  const text = JSON.stringify(whole);
  const isCancelled = items.some(({ state }) => state === "cancelled");
  const ill = succeeded === 0 ? { isError: true } : {};
  if (text.length <= mostInlineBytes) return { result: { ...resultOf(whole, text), ...ill }, isCancelled, finishedMs };
  const linked = items.map(({ outputs, ...one }) =>
    outputs === undefined ? one : { ...one, output_uri: resourceUris.output(one.job_id) },
  );
  return { result: { ...resultOf({ ...about, items: linked }), ...ill }, isCancelled, finishedMs };
}

async function itemOf(context: DoorContext, caller: Caller, id: string): Promise<{ item: Item; record?: JobRecord }> {
  let record: JobRecord;
  try {
    record = await context.jobs.get(id, caller);
  } catch (error) {
    if (!(error instanceof SwitchyardError) || error.code === "store_unavailable") throw error;
    const state = (error.facts.extra?.state as JobState | undefined) ?? "expired";
    return { item: { job_id: id, state, error: { code: error.code, detail: error.message } } };
  }
  if (record.state !== "succeeded") return { item: { job_id: id, state: record.state, error: failureIn(record) }, record };
  const { structured } = await outcomeOf(context, record);
  const { model: _model, version: _version, ...outcome } = structured;
  return { item: { ...outcome, job_id: id, state: record.state }, record };
}
