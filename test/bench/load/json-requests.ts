/** The same job twice in JSON: on /v1, and as a call of the model's tool at /mcp. Both calls are held until the job has ended. */

import type { SampleModel } from "./samples.ts";

interface Item {
  shape: readonly number[];
  bytes: Uint8Array;
}

interface Target {
  model: SampleModel;
  timeoutMs?: number;
  apiKey?: string;
}

const protocolVersion = "2026-07-28";

/** POST /v1/jobs, waited for. */
export function jobRequest({ model, timeoutMs, apiKey }: Target, item: Item): Buffer {
  const body = {
    model: model.name,
    inputs: [{ name: "input", datatype: "FP32", shape: item.shape, data: [...valuesOf(item)] }],
    ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
  };
  return request("/v1/jobs", body, { prefer: "wait=60", ...keyHeader(apiKey) });
}

/** tools/call of 2026-07-28, which stands for itself. */
export function toolRequest({ model, timeoutMs, apiKey }: Target, item: Item): Buffer {
  const name = `infer_${model.name}`;
  const body = {
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: {
      name,
      arguments: { inputs: { input: nested(valuesOf(item), item.shape) }, ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }) },
      _meta: {
        "io.modelcontextprotocol/protocolVersion": protocolVersion,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { name: "bench", version: "1" },
      },
    },
  };
  const headers = { "mcp-protocol-version": protocolVersion, "mcp-method": "tools/call", "mcp-name": name, ...keyHeader(apiKey) };
  return request("/mcp", body, { accept: "application/json, text/event-stream", ...headers });
}

const keyHeader = (apiKey: string | undefined): Record<string, string> =>
  apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };

function valuesOf({ bytes }: Item): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function nested(values: Float32Array, [length = 0, ...rest]: readonly number[]): unknown[] {
  if (rest.length === 0) return [...values];
  const size = values.length / length;
  return Array.from({ length }, (_, index) => nested(values.subarray(index * size, (index + 1) * size), rest));
}

function request(path: string, body: unknown, headers: Record<string, string>): Buffer {
  const text = JSON.stringify(body);
  const lines = Object.entries({
    host: "127.0.0.1",
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(text)),
    ...headers,
  });
  return Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n${text}`);
}
