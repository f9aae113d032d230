/** The answer of an inference as a program wants it: outputs by name, as typed arrays or strings. */

import {
  type Datatype,
  decodeInferResponse,
  type InferBody,
  SwitchyardError,
  type Tensor,
  type TypedArray,
  toStrings,
  toTypedArray,
} from "@switchyard/protocol";
import { ClientError } from "./client-errors.ts";
import type { JobView } from "./job-records.ts";
import type { Answer } from "./transport.ts";

export interface OutputTensor {
  name: string;
  datatype: Datatype;
  shape: number[];
  /**
   * Row-major elements. BYTES: strings. BOOL: a Uint8Array of 0 and 1. INT64, UINT64: bigint arrays. FP16: the 2-byte words, see
   * `floatFromHalf`.
   */
  data: TypedArray | string[];
}

export interface InferTimings {
  queueMs?: number;
  runMs?: number;
  totalMs?: number;
  batchItems?: number;
}

export interface InferResult {
  model: string;
  version: number;
  /** The request's own id if it had one, else the job's where the server says it. */
  id: string | undefined;
  outputs: Record<string, OutputTensor>;
  timings?: InferTimings;
}

/** Throws ClientError `unexpected_answer` when the body is no answer of the protocol. */
export function readInferAnswer(answer: Answer): InferResult {
  const headerLength = answer.headers.get("inference-header-content-length");
  const result = readResult({ body: answer.bytes, ...(headerLength === null ? {} : { headerLength: Number(headerLength) }) });
  const timings = readServerTiming(answer.headers.get("server-timing"));
  if (timings !== undefined) result.timings = timings;
  return result;
}

/** The same of a result that came as JSON within something else. */
export function readResultText(text: string): InferResult {
  return readResult({ body: new TextEncoder().encode(text) });
}

/** Adds what the job's view knows of its times. */
export function withTimings(result: InferResult, { timings }: JobView): InferResult {
  if (timings === undefined) return result;
  const { queue_ms, run_ms, total_ms, batch_items } = timings;
  return { ...result, timings: { queueMs: queue_ms, runMs: run_ms, totalMs: total_ms, batchItems: batch_items } };
}

function readResult(source: InferBody): InferResult {
  try {
    const response = decodeInferResponse(source);
    const outputs = Object.fromEntries(response.outputs.map((tensor) => [tensor.name, outputTensor(tensor)]));
    return { model: response.modelName, version: Number(response.modelVersion), id: response.id, outputs };
  } catch (error) {
    if (error instanceof SwitchyardError) throw new ClientError("unexpected_answer", error.message, { cause: error });
    throw error;
  }
}

function outputTensor(tensor: Tensor): OutputTensor {
  const { name, datatype, shape } = tensor;
  return { name, datatype, shape, data: datatype === "BYTES" ? toStrings(tensor) : toTypedArray(tensor) };
}

/** `queue;dur=1.2, run;dur=3.4, total;dur=5` in milliseconds. */
function readServerTiming(header: string | null): InferTimings | undefined {
  if (header === null) return undefined;
  const found = new Map([...header.matchAll(/([\w-]+)\s*;[^,]*?\bdur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]));
  const timings: InferTimings = {};
  const [queueMs, runMs, totalMs] = [found.get("queue"), found.get("run"), found.get("total")];
  if (queueMs !== undefined) timings.queueMs = queueMs;
  if (runMs !== undefined) timings.runMs = runMs;
  if (totalMs !== undefined) timings.totalMs = totalMs;
  return timings;
}
