/** Calls of a bare HTTP client, without the SDK: what is asked is what is sent, and every answer comes back with the time it took. */

import type { JobView, Tensor } from "@switchyard/protocol";
import { Agent, request } from "undici";

/** As many connections as calls: thousands that hold the line must not keep the others waiting. */
const agent = new Agent({ connections: 8_192, headersTimeout: 120_000, bodyTimeout: 120_000, keepAliveTimeout: 10_000 });

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  bytes: Buffer;
  tookMs: number;
  // biome-ignore lint/suspicious/noExplicitAny: the shape is what a test checks
  json(): any;
}

export interface Ask {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  headers?: Record<string, string>;
  body?: unknown;
  signal?: AbortSignal;
}

/** A body that is not bytes is sent as JSON. */
export async function call(url: string, ask: Ask = {}): Promise<Answer> {
  const sentMs = performance.now();
  const { body, headers, method = body === undefined ? "GET" : "POST", signal } = ask;
  const sent = body === undefined || body instanceof Uint8Array ? body : JSON.stringify(body);
  const answer = await request(url, {
    method,
    headers: { ...(typeof sent === "string" && { "content-type": "application/json" }), ...headers },
    body: sent ?? null,
    dispatcher: agent,
    ...(signal && { signal }),
  });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  return {
    status: answer.statusCode,
    headers: answer.headers,
    bytes,
    tookMs: performance.now() - sentMs,
    json: () => JSON.parse(bytes.toString()),
  };
}

/** The job's view, asked once or by waiting. */
export async function jobView(url: string, id: string, waitSeconds = 0): Promise<JobView> {
  const answer = await call(`${url}/v1/jobs/${id}${waitSeconds > 0 ? `?wait=${waitSeconds}` : ""}`);
  if (answer.status !== 200) throw new Error(`GET of job ${id}: ${answer.status} ${answer.bytes}`);
  return answer.json();
}

/** One FP32 tensor as JSON. */
export function floats(name: string, shape: readonly number[], data: Iterable<number>) {
  return { name, datatype: "FP32", shape, data: [...data] };
}

/** Body and headers of a binary inference with one FP32 input and binary outputs. */
export function binaryInference(
  name: string,
  shape: readonly number[],
  data: Float32Array,
): { body: Buffer; headers: Record<string, string> } {
  return binaryRequest({ name, datatype: "FP32", shape: [...shape], bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) });
}

/** Body and headers of a binary inference with binary outputs. */
export function binaryRequest(...inputs: Tensor[]): { body: Buffer; headers: Record<string, string> } {
  const described = inputs.map(({ bytes, ...input }) => ({ ...input, parameters: { binary_data_size: bytes.length } }));
  const json = Buffer.from(JSON.stringify({ inputs: described, parameters: { binary_data_output: true } }));
  return {
    body: Buffer.concat([json, ...inputs.map(({ bytes }) => bytes)]),
    headers: { "content-type": "application/octet-stream", "inference-header-content-length": String(json.length) },
  };
}

/** A binary answer's outputs by name, as bytes. */
export function binaryOutputs(answer: Answer): Map<string, Buffer> {
  const length = Number(answer.headers["inference-header-content-length"]);
  const { outputs } = JSON.parse(answer.bytes.subarray(0, length).toString()) as {
    outputs: { name: string; parameters: { binary_data_size: number } }[];
  };
  let at = length;
  return new Map(
    outputs.map(({ name, parameters }) => {
      const bytes = answer.bytes.subarray(at, at + parameters.binary_data_size);
      at += parameters.binary_data_size;
      return [name, bytes];
    }),
  );
}
