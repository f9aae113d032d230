/** A job's outputs as /v1 shows them: on their own, or inline in the job's view. */

import { encodeInferResponse, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";
import type { JobRecord } from "../ports/job-store.ts";
import { bufferOf } from "./answers.ts";
import { type DoorContext, labelsOf } from "./door-context.ts";
import { toJobView } from "./job-view.ts";

const maxInlineBytes = 1_048_576;

/** The view with the answer spliced in as text: numbers beyond 2^53 would not survive a parse. Left out when JSON cannot say it. */
export async function viewWithResult(context: DoorContext, record: JobRecord, caller: Caller): Promise<Buffer> {
  const view = JSON.stringify(toJobView(record, caller));
  if (record.state !== "succeeded") return Buffer.from(view);
  const outputs = await inlineOutputs(context, record);
  const json = outputs && resultAs(context, { record, outputs, binary: false })?.parts[0];
  if (json === undefined || json.length > maxInlineBytes) return Buffer.from(view);
  return Buffer.concat([Buffer.from(`${view.slice(0, -1)},"result":`), bufferOf(json), Buffer.from("}")]);
}

/** Undefined when they are gone or larger than what goes into a view: the view is there all the same. */
async function inlineOutputs(context: DoorContext, record: JobRecord): Promise<Tensor[] | undefined> {
  try {
    const outputs = await context.jobs.outputs(record, { maxBytes: 2 * maxInlineBytes }); // with room for what frames them
    const sizeBytes = outputs.reduce((sum, output) => sum + output.bytes.length, 0);
    return sizeBytes <= maxInlineBytes ? outputs : undefined;
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "result_expired") return undefined;
    throw error;
  }
}

/** Undefined when a value has no JSON form. */
export function resultAs(context: DoorContext, source: { record: JobRecord; outputs: Tensor[]; binary: boolean }) {
  const { record, outputs, binary } = source;
  const asked =
    record.outputs !== undefined && record.outputs.length > 0 ? record.outputs : outputs.map(({ name }): { name: string } => ({ name }));
  const wishes = { outputs: asked.map((output) => ({ ...output, binary })) };
  const labels = labelsOf(context, record);
  const response = { modelName: record.model, modelVersion: String(record.version), id: record.requestId || record.id, outputs };
  try {
    return encodeInferResponse({ response, wishes, labels });
  } catch (error) {
    if (!binary && error instanceof SwitchyardError && error.code === "invalid_request") return undefined;
    throw error;
  }
}
