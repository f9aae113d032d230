/** gRPC through a whole cluster of processes: the same answers as HTTP, time limits, clients that leave, a coordinator that is stopped under load. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { binaryInference, binaryOutputs, call } from "../support/calls.ts";
import { collect, GrpcClient } from "../support/grpc-client.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type HeldRuns, heldRuns, layersModel, type Repository, rowsOf, slowModel } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let cluster: Processes;
let client: GrpcClient;
let runs: HeldRuns;
before(async () => {
  models = await emptyRepository();
  await models.add("layers", layersModel(4));
  await models.add("slow", slowModel(1));
  runs = heldRuns(models, 400);
  cluster = await startProcesses({ coordinators: 2, models: models.folder, workerEnv: runs.env });
  client = new GrpcClient(cluster.coordinators[0]!.grpc);
});
after(async () => {
  client?.close();
  await cluster?.stop();
  await models?.remove();
});

const rows = rowsOf(32);
const bytesOf = (row: Float32Array): Buffer => Buffer.from(row.buffer, row.byteOffset, row.byteLength);

function layersRequest(row: Float32Array, form: "raw" | "typed" = "raw", extra: Record<string, unknown> = {}): Record<string, unknown> {
  const head = { name: "x", datatype: "FP32", shape: [1, row.length] };
  const inputs =
    form === "raw"
      ? { inputs: [head], raw_input_contents: [bytesOf(row)] }
      : { inputs: [{ ...head, contents: { fp32_contents: [...row] } }] };
  return { model_name: "layers", ...inputs, ...extra };
}

const slowRequest = (extra: Record<string, unknown> = {}): Record<string, unknown> => ({
  model_name: "slow",
  inputs: [{ name: "x", datatype: "FP32", shape: [1], contents: { fp32_contents: [1] } }],
  ...extra,
});

async function slowJobs(state: string): Promise<JobView[]> {
  return ((await call(`${cluster.url}/v1/jobs?model=slow&state=${state}`)).json() as { items: JobView[] }).items;
}

test("an inference answers what HTTP answers in binary, raw and typed", async () => {
  for (const row of rows.slice(0, 4)) {
    const { body, headers } = binaryInference("x", [1, row.length], row);
    const http = await call(`${cluster.url}/v2/models/layers/infer`, { body, headers });
    assert.equal(http.status, 200, http.bytes.toString());
    const expected = binaryOutputs(http).get("y");
    for (const form of ["raw", "typed"] as const) {
      const { code, details, message } = await client.call("ModelInfer", layersRequest(row, form));
      assert.equal(code, "OK", details);
      assert.deepEqual(message.raw_output_contents[0], expected);
    }
  }
});

test("answers of a stream come in the order of its messages and are each its own", async () => {
  const stream = client.stream();
  const all = collect(stream);
  for (const [at, row] of rows.entries()) stream.write(layersRequest(row, "raw", { id: String(at) }));
  stream.end();
  const { messages, code } = await all;
  assert.equal(code, "OK");
  assert.deepEqual(
    messages.map(({ infer_response }) => infer_response.id),
    rows.map((_, at) => String(at)),
  );
  for (const [at, { infer_response }] of messages.entries()) {
    const alone = (await client.call("ModelInfer", layersRequest(rows[at]!))).message.raw_output_contents[0] as Buffer;
    const streamed = new Float32Array(Uint8Array.from(infer_response.raw_output_contents[0]).buffer);
    const single = new Float32Array(Uint8Array.from(alone).buffer);
    for (const [index, value] of streamed.entries()) assert.ok(Math.abs(value - single[index]!) < 1e-4, `answer ${at} is another's`);
  }
});

test("a time limit that cannot be kept ends the call with words for it, within the limit", async () => {
  await client.call("ModelInfer", slowRequest()); // now the length of its run is known
  const limited = await client.call("ModelInfer", slowRequest({ parameters: { timeout: { int64_param: "60000" } } }));
  assert.ok(limited.code === "DEADLINE_EXCEEDED" || limited.code === "UNAVAILABLE", limited.code);
  assert.ok(limited.tookMs < 20_000, `${limited.tookMs} ms`);
  if (limited.code === "UNAVAILABLE") {
    assert.equal(limited.trailers["x-switchyard-error"], "deadline_unattainable");
    assert.ok(Number(limited.trailers["retry-after"]) >= 1);
    assert.ok(Number(limited.trailers.estimated_ms) > 0);
  }
  const byDeadline = await client.call("ModelInfer", slowRequest(), { deadlineMs: 100 });
  assert.ok(byDeadline.code === "DEADLINE_EXCEEDED" || byDeadline.code === "UNAVAILABLE", byDeadline.code);
  assert.equal((await client.call("ModelInfer", slowRequest({ parameters: { timeout: { int64_param: "60000000" } } }))).code, "OK");
});

test("a client that cancels frees its jobs, the one that runs and the one that waits", async () => {
  await runs.hold();
  const leaving = new AbortController();
  const calls = [0, 1].map(() => client.call("ModelInfer", slowRequest(), { signal: leaving.signal }));
  await until("one job to run", async () => (await slowJobs("running")).length > 0 && (await slowJobs("queued")).length > 0, {
    show: () => cluster.log(),
  });
  leaving.abort();
  for (const { code } of await Promise.all(calls)) assert.equal(code, "CANCELLED");
  await until("both to be cancelled", async () => (await slowJobs("cancelled")).length >= 2, { show: () => cluster.log() });
  await runs.letGo();
  assert.equal((await client.call("ModelInfer", slowRequest())).code, "OK");
});

test("a coordinator that is stopped under load fails no call", async () => {
  const addresses = cluster.coordinators.map(({ grpc }) => grpc).join(",");
  const config = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });
  using both = new GrpcClient(`ipv4:${addresses}`, { "grpc.service_config": config });
  let stopping = false;
  const codes = new Map<string, number>();
  const failures: string[] = [];
  const clients = Array.from({ length: 16 }, async (_, at) => {
    while (!stopping) {
      const { code, details } = await both.call("ModelInfer", layersRequest(rows[at]!), { deadlineMs: 60_000 });
      codes.set(code, (codes.get(code) ?? 0) + 1);
      if (code !== "OK") failures.push(`${code}: ${details}`);
    }
  });
  const answered = (): number => codes.get("OK") ?? 0;
  await until("load", async () => answered() > 100);
  const [first, second] = cluster.coordinators;
  const before = answered();
  assert.equal(await second!.stop(), 0, second!.log());
  await until("load that goes on", async () => answered() > before + 100);
  stopping = true;
  await Promise.all(clients);
  assert.deepEqual(failures, []);
  assert.ok(first!.runs);
});
