/** Jobs as resources: those of the caller that were made last, and what one of them has answered. */

import { askedOutputs, decodeBytesStrings, isTerminal, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { Caller } from "../../application/caller.ts";
import type { JobRecord } from "../../ports/job-store.ts";
import { bufferOf } from "../answers.ts";
import { type DoorContext, labelsOf } from "../door-context.ts";
import { resultAs } from "../job-result.ts";

/** Jobs that are listed as resources. Others are read by their ids all the same. */
export const mostListedJobs = 50;
/** An answer up to this size is told as JSON. */
const mostJsonBytes = 1_048_576;
/** A larger one, or one that JSON cannot say, is told as bytes up to this size. */
const mostBinaryBytes = 4_194_304;
/** What frames tensors in the store, at most. */
const frameBytes = 65_536;
const mostClasses = 5;
/** Of one answer; a large batch is better classified by whoever asked for it. */
const mostClassifiedRows = 16;
/** A job that has ended does not change while it is kept. */
const endedTtlMs = 60_000;

/** Text, or bytes in base64. */
export type Content = { uri: string; mimeType: string; _meta?: Record<string, unknown> } & ({ text: string } | { blob: string });

/** Newest first. Throws `store_unavailable`. */
export async function lastJobs(context: DoorContext, caller: Caller): Promise<JobRecord[]> {
  return (await context.jobs.list({ limit: mostListedJobs }, caller)).jobs;
}

/** For how long a view of the job may be kept. */
export function jobTtlMs({ finishedMs, state, ttlMs }: JobRecord, nowMs: number): number {
  if (!isTerminal(state) || finishedMs === undefined) return 0;
  return Math.max(0, Math.min(endedTtlMs, finishedMs + ttlMs - nowMs));
}

/**
 * The Open Inference Protocol answer in JSON; as bytes where it is large or JSON cannot say it. Throws `job_not_finished`,
 * `job_not_succeeded`, `payload_too_large`.
 */
export async function outputContent(context: DoorContext, record: JobRecord, uri: string): Promise<Content> {
  const outputs = await boundedOutputs(context, record);
  const sizeBytes = outputs.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (sizeBytes <= mostJsonBytes) {
    const json = resultAs(context, { record, outputs, binary: false })?.parts[0];
    if (json !== undefined && json.length <= mostJsonBytes) {
      const text = withClasses(bufferOf(json).toString("utf8"), classesIn(context, { record, outputs }));
      return { uri, mimeType: "application/json", text };
    }
  }
  if (sizeBytes > mostBinaryBytes) throw tooLarge(record.id);
  const { headerLength, parts } = resultAs(context, { record, outputs, binary: true })!;
  const blob = Buffer.concat(parts).toString("base64");
  // as the header of the same name, without which the tensors are not found
  return { uri, mimeType: "application/octet-stream", blob, _meta: { "inference-header-content-length": headerLength ?? 0 } };
}

/** Those that are much too large are not even read. */
async function boundedOutputs({ jobs }: DoorContext, record: JobRecord): Promise<Tensor[]> {
  try {
    return await jobs.outputs(record, { maxBytes: mostBinaryBytes + frameBytes });
  } catch (error) {
    if (error instanceof SwitchyardError && error.code === "result_expired") throw tooLarge(record.id);
    throw error;
  }
}

function tooLarge(jobId: string): SwitchyardError {
  const detail = `the outputs have more than the ${mostBinaryBytes} bytes that a resource may have, or are gone: ask /v1/jobs/${jobId}/result`;
  return new SwitchyardError("payload_too_large", detail, { jobId, extra: { limit_bytes: mostBinaryBytes } });
}

/** The likeliest classes of outputs that have class names: for each item `value:index:label`, the likeliest first. */
function classesIn(context: DoorContext, { outputs, record }: { outputs: Tensor[]; record: JobRecord }): Record<string, string[][]> {
  const labels = labelsOf(context, record) ?? {};
  const asked = new Set(record.outputs?.filter(({ classification }) => classification !== undefined).map(({ name }) => name));
  const named = outputs.filter(({ datatype, name, shape }) => {
    const rows = shape.length > 1 ? shape[0]! : 1;
    return Object.hasOwn(labels, name) && !asked.has(name) && datatype !== "BYTES" && rows <= mostClassifiedRows;
  });
  const wishes = { outputs: named.map(({ name }) => ({ name, classification: mostClasses })) };
  const response = { modelName: record.model, modelVersion: String(record.version), outputs };
  const classified = askedOutputs({ response, wishes, labels });
  return Object.fromEntries(classified.map(({ output }) => [output.name, rowsOf(output)]));
}

function rowsOf({ bytes, shape }: Tensor): string[][] {
  const elements = decodeBytesStrings(bytes);
  const rows = shape.length > 1 ? shape[0]! : 1;
  const perRow = elements.length / Math.max(1, rows);
  return Array.from({ length: rows }, (_, row) => elements.slice(row * perRow, (row + 1) * perRow));
}

/** As text, because numbers beyond 2^53 would not survive a parse. */
function withClasses(json: string, classes: Record<string, string[][]>): string {
  return Object.keys(classes).length === 0 ? json : `${json.slice(0, -1)},"classification":${JSON.stringify(classes)}}`;
}
