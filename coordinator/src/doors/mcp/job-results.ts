/** What became of a job, as a tool's result, made from its record alone: whoever asks later is told the same. */

import type { CallToolResult } from "@modelcontextprotocol/server";
import { type ErrorCode, isErrorCode, isTerminal, SwitchyardError } from "@switchyard/protocol";
import type { JobRecord } from "../../ports/job-store.ts";
import { type DoorContext, labelsOf } from "../door-context.ts";
import { answerOf, linkTo, mostInlineBytes, resultOf } from "./tensor-results.ts";
import { type Failure, failedResult } from "./tool-errors.ts";

/** With room for what frames them. */
const mostReadBytes = 2 * mostInlineBytes;

type Structured = Record<string, unknown>;

/** Outputs and classes of a job that succeeded, or where its outputs are; nothing once they are gone. */
export async function outcomeOf(
  context: DoorContext,
  record: JobRecord,
): Promise<{ structured: Structured; text: string; isWhole: boolean }> {
  const about = { model: record.model, version: record.version, labels: labelsOf(context, record), jobId: record.id };
  const outputs = await smallOutputs(context, record);
  return outputs === undefined ? { ...answerOf({ ...about, outputs: [] }), isWhole: false } : answerOf({ ...about, outputs });
}

async function smallOutputs(context: DoorContext, record: JobRecord) {
  try {
    return await context.jobs.outputs(record, { maxBytes: mostReadBytes });
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "result_expired") return undefined;
    throw error;
  }
}

/** Of a job that has ended. */
export async function endedResult(context: DoorContext, record: JobRecord): Promise<CallToolResult> {
  if (record.state !== "succeeded") return failedResult(failureIn(record));
  const { isWhole, structured, text } = await outcomeOf(context, record);
  return resultOf(structured, text, isWhole ? [] : [linkTo(record.id)]);
}

/** Why a job that did not succeed ended. */
export function failureIn({ error, id, state }: JobRecord): Failure {
  const known = error ?? { code: state, detail: `The job is ${state}`, retryable: false };
  return { ...known, job_id: id };
}

/** Whether a job ended by what happened to the cluster, not by what its model made of its inputs. */
export function isInfrastructure({ error, state }: JobRecord): boolean {
  return state === "failed" && error !== undefined && isErrorCode(error.code) && infrastructure.has(error.code);
}

const infrastructure: ReadonlySet<ErrorCode> = new Set(["input_lost", "poison", "internal", "no_capable_host", "store_unavailable"]);

/** The job as tools show it: its state always, its outcome once there is one. */
export async function jobAnswer(context: DoorContext, record: JobRecord, view: Structured): Promise<CallToolResult> {
  if (!isTerminal(record.state) || record.state !== "succeeded") return resultOf(view);
  const { isWhole, structured } = await outcomeOf(context, record);
  return resultOf({ ...structured, ...view }, undefined, isWhole ? [] : [linkTo(record.id)]);
}
