/** Jobs as documents that arguments of tool calls are taken from: what became of the job, and its outputs as nested arrays. */

import { jsonFromTensor, SwitchyardError, type Tensor } from "@switchyard/protocol";
import type { Caller } from "./caller.ts";
import type { JobService } from "./job-service.ts";
import { type Bindings, bindArguments } from "./tool-binding.ts";

/** Of all outputs of one job together. */
const mostOutputBytes = 1 << 20;
/** Of those of all jobs of a call together, before anything is picked from them. */
const mostReadBytes = 4 << 20;

type Jobs = Pick<JobService, "get" | "outputs">;

/**
 * The arguments with what is bound to jobs in its place. Reads each job once, and its outputs only where they are asked for. Throws what reading
 * jobs throws, and `invalid_request` for bindings that lead nowhere and `payload_too_large` for what is larger than a call may carry.
 */
export async function boundArguments(
  jobs: Jobs,
  bound: { arguments: Record<string, unknown>; bindings: Bindings },
  caller: Caller,
): Promise<Record<string, unknown>> {
  const pointers = Map.groupBy(bound.bindings.values(), ({ document }) => document);
  const documents = new Map<string, unknown>();
  let leftBytes = mostReadBytes;
  for (const [job, sources] of pointers) {
    const wantsOutputs = sources.some(({ pointer }) => pointer === "" || pointer === "/outputs" || pointer.startsWith("/outputs/"));
    const { document, sizeBytes } = await jobDocument(
      jobs,
      { id: job, wantsOutputs, mostBytes: Math.min(mostOutputBytes, leftBytes) },
      caller,
    );
    documents.set(job, document);
    leftBytes -= sizeBytes;
  }
  return bindArguments(bound.arguments, bound.bindings, documents);
}

interface AskedJob {
  id: string;
  wantsOutputs: boolean;
  mostBytes: number;
}

interface JobDocument {
  document: Record<string, unknown>;
  /** Of the outputs, as tensors. */
  sizeBytes: number;
}

async function jobDocument(jobs: Jobs, asked: AskedJob, caller: Caller): Promise<JobDocument> {
  const record = await jobs.get(asked.id, caller);
  const document: Record<string, unknown> = {
    id: record.id,
    state: record.state,
    model: record.model,
    version: record.version,
    class: record.class,
    tags: record.tags ?? {},
    created_at: new Date(record.createdMs).toISOString(),
  };
  if (record.finishedMs) document.finished_at = new Date(record.finishedMs).toISOString();
  if (record.error) document.error = record.error;
  if (!asked.wantsOutputs) return { document, sizeBytes: 0 };
  const outputs = await jobs.outputs(record, { maxBytes: asked.mostBytes });
  const sizeBytes = outputs.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (sizeBytes > asked.mostBytes) {
    throw new SwitchyardError(
      "payload_too_large",
      `The outputs of job ${record.id} are too large to be bound: at most ${mostOutputBytes} bytes of a job and ${mostReadBytes} of all jobs of a call, got ${sizeBytes}`,
      { jobId: record.id },
    );
  }
  return { document: { ...document, outputs: Object.fromEntries(outputs.map((tensor) => [tensor.name, asNested(tensor)])) }, sizeBytes };
}

/** Nested by the tensor's shape; one without axes is its value. Whole numbers that a double would round are text. */
export function asNested(tensor: Tensor): unknown {
  const isLong = tensor.datatype === "INT64" || tensor.datatype === "UINT64";
  const text = jsonFromTensor(tensor, `/outputs/${tensor.name}`);
  const flat = JSON.parse(isLong ? text.replace(/-?\d{16,}/g, '"$&"') : text) as unknown[];
  return nest(flat, tensor.shape);
}

function nest(flat: readonly unknown[], shape: readonly number[]): unknown {
  const [rows, ...rest] = shape;
  if (rows === undefined) return flat[0];
  if (rest.length === 0) return flat;
  const size = rest.reduce((product, length) => product * length, 1);
  return Array.from({ length: rows }, (_, row) => nest(flat.slice(row * size, (row + 1) * size), rest));
}
