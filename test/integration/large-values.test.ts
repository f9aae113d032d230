/** Jobs whose tensors are too large for Redis, through real processes: with the coordinators' folder, without it, and when bytes are gone. */

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { blobFileName, blobFolder, type InputsView, type SizesView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { type Answer, binaryInference, binaryOutputs, call, jobView } from "../support/calls.ts";
import { whileDrained } from "../support/drained-host.ts";
import { type NegatingCluster, startNegatingCluster } from "../support/negating-cluster.ts";
import { type Processes, startProcesses, type WorkerProcess } from "../support/processes.ts";
import { until } from "../support/until.ts";

const shape = [3072, 1024];
const count = 3072 * 1024; // 12 MiB of FP32
const smallReply = 1024;

let folder: string;
let cluster: Processes;
let redis: Redis;
let worker: WorkerProcess;
let negating: NegatingCluster | undefined;
before(async () => {
  negating = await startNegatingCluster(shape);
  ({ cluster, folder, redis } = negating);
  worker = cluster.workers[0]!;
});
after(() => negating?.close());

/** Another tensor for each seed. */
function tensorOf(seed: number): Float32Array {
  return new Float32Array(count).map((_, at) => (at * 31 + seed) % 8191);
}

function infer(seed: number): Promise<Answer> {
  return call(`${cluster.url}/v2/models/negative/infer`, binaryInference("x", shape, tensorOf(seed)));
}

async function submit(seed: number, more: object = {}, url = cluster.url): Promise<string> {
  const bytes = Buffer.from(tensorOf(seed).buffer);
  const x = { name: "x", datatype: "FP32", shape, parameters: { binary_data_size: bytes.length } };
  const json = Buffer.from(JSON.stringify({ model: "negative", inputs: [x], ...more }));
  const headers = { "content-type": "application/octet-stream", "inference-header-content-length": String(json.length) };
  const answer = await call(`${url}/v1/jobs`, { body: Buffer.concat([json, bytes]), headers });
  assert.equal(answer.status, 202, answer.bytes.subarray(0, 500).toString());
  return answer.json().id;
}

function assertRight(answer: Answer, seed: number): void {
  assert.equal(answer.status, 200, `${answer.bytes.subarray(0, 500)}\n${cluster.log()}`);
  const bytes = binaryOutputs(answer).get("y")!;
  const got = new Float32Array(new Uint8Array(bytes).buffer);
  const wrong = tensorOf(seed).findIndex((value, at) => got[at] !== -value && value !== 0);
  assert.equal(wrong, -1);
  assert.equal(got.length, count);
}

/** Every blob in a folder, with its path. */
async function blobsIn(data: string): Promise<string[]> {
  const names = await readdir(path.join(data, "blobs"), { recursive: true }).catch(() => []);
  return names.filter((name) => /[0-9a-f]{64}\.\d+$/.test(name)).map((name) => path.join(data, "blobs", name));
}

async function memoryOf(pattern: string): Promise<number[]> {
  return Promise.all((await redis.keys(pattern)).map(async (key) => Number(await redis.memory("USAGE", key))));
}

test("a 12 MiB input and output come through, and Redis holds less than a kilobyte for either", async () => {
  let answering: Promise<Answer> | undefined;
  const [input] = await whileDrained(cluster.url, worker.hostId, async () => {
    answering = infer(1);
    const stored = await until("the input to be stored", async () => {
      const sizes = await memoryOf("sy:*:in:*");
      return sizes.length === 1 && sizes;
    });
    const [key] = await redis.keys("sy:*:in:*");
    const { inputs } = (await call(`${cluster.url}/v1/jobs/${key!.split(":in:")[1]}/inputs`)).json() as InputsView;
    assert.deepEqual(inputs, [{ name: "x", datatype: "FP32", shape, size_bytes: 4 * count }], "told without reading the value");
    return stored;
  });
  assertRight(await answering!, 1);
  assert.ok(input! < smallReply, `${input} bytes for the input`);
  const records = await memoryOf("sy:*:job:*");
  assert.equal(records.length, 1);
  assert.ok(records[0]! < smallReply, `${records[0]} bytes for the record, which tells where the output is`);
  assert.deepEqual(await redis.keys("sy:*:out:*"), []);
  assert.equal((await blobsIn(folder)).length, 2);
});

test("a job whose large input is gone fails and says so, and its neighbours go on", async () => {
  await until("earlier calls to be over", async () => (await memoryOf("sy:*:in:*")).length === 0);
  const before = new Set(await blobsIn(folder));
  let losing: Promise<Answer> | undefined;
  await whileDrained(cluster.url, worker.hostId, async () => {
    losing = infer(2);
    await until("the input to be stored", async () => (await memoryOf("sy:*:in:*")).length === 1);
    for (const file of await blobsIn(folder)) if (!before.has(file)) await rm(file);
  });
  const answer = await losing!;
  assert.equal(answer.status, 500);
  assert.match(answer.bytes.toString(), /no longer in the store/);
  assertRight(await infer(3), 3);
});

test("a large result that is gone is told as gone", async () => {
  const id = await submit(4);
  assert.equal((await jobView(cluster.url, id, 60)).state, "succeeded");
  const { inputs_bytes, outputs_bytes } = (await call(`${cluster.url}/v1/jobs/${id}/sizes`)).json() as SizesView;
  assert.equal(inputs_bytes, undefined);
  assert.ok(outputs_bytes! >= 4 * count && outputs_bytes! < 4 * count + 1_000, `${outputs_bytes} bytes, told before any is read`);
  for (const file of await blobsIn(folder)) await rm(file);
  const answer = await call(`${cluster.url}/v1/jobs/${id}/result`);
  assert.equal(answer.status, 410);
  assert.equal(answer.json().code, "result_expired");
});

test("a body beyond the limit is refused whatever becomes of it inside, and so is a blob", async () => {
  const promise = (method: string, where: string, sizeBytes: number): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { "content-type": "application/octet-stream", "content-length": sizeBytes };
      const sent = request(`${cluster.url}${where}`, { method, headers }, (answer) => {
        resolve(answer.statusCode ?? 0);
        sent.destroy();
      });
      sent.on("error", reject);
      sent.write("x");
    });
  const limit = 64 * 1024 * 1024;
  assert.equal(await promise("POST", "/v2/models/negative/infer", limit + 1), 413);
  assert.equal(await promise("PUT", `/v1/blobs/${"0".repeat(64)}?keep_ms=1000`, 16 * limit + 1), 413);
});

test("a large value of a job that asks for the disk is synced with its record, its answer with its outcome", async () => {
  await redis.config("SET", "appendfsync", "always");
  const id = await submit(40, { durability: "fsync" });
  const view = await jobView(cluster.url, id, 60);
  assert.deepEqual([view.state, view.durability], ["succeeded", "fsync"]);
  const answer = await call(`${cluster.url}/v1/jobs/${id}/result`, { headers: { accept: "application/octet-stream" } });
  assertRight(answer, 40);
  await redis.config("SET", "appendfsync", "everysec");
});

test("a host without the folder fetches large inputs from a coordinator and hands large outputs back", async () => {
  await worker.stop();
  const elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  worker = await cluster.addWorker({ SWITCHYARD_DATA: elsewhere, SWITCHYARD_URL: cluster.url });
  assertRight(await infer(5), 5);
  const stored = [...(await memoryOf("sy:*:job:*")), ...(await memoryOf("sy:*:out:*"))];
  assert.ok(stored.length > 0 && stored.every((size) => size < smallReply));
  assert.deepEqual(await blobsIn(elsewhere), []);
  await rm(elsewhere, { recursive: true });
});

test("a host with no way to large values says what to set, and loses neither itself nor small jobs", async () => {
  await worker.stop();
  const elsewhere = await mkdtemp(path.join(tmpdir(), "switchyard-elsewhere-"));
  worker = await cluster.addWorker({ SWITCHYARD_DATA: elsewhere, SWITCHYARD_URL: "" });
  const answer = await infer(6);
  assert.equal(answer.status, 500);
  assert.match(answer.bytes.toString(), /SWITCHYARD_BLOBS.*SWITCHYARD_URL/);
  assert.equal((await call(`${cluster.url}/readyz`)).status, 200);
  await rm(elsewhere, { recursive: true });
});

/** A variable by which the system's clock, as a process reads it, is off by so much. */
const clockOff = (ms: number): Record<string, string> => {
  const module = `const now = Date.now; Date.now = () => now() + ${ms};`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(module)}` };
};

test("coordinators and hosts whose clocks are far apart take no large value from a job or its result", async (t) => {
  const data = await mkdtemp(path.join(tmpdir(), "switchyard-clocks-"));
  const offMs = 30 * 60_000;
  const others = await startProcesses({
    coordinators: 2,
    models: negating!.models,
    env: { SWITCHYARD_DATA: data, SWITCHYARD_RESULT_TTL: "60s" },
    envOf: (name) => clockOff(name === "coordinator-2" ? offMs : -offMs),
  });
  const client = new Redis(others.redis.url);
  t.after(async () => {
    client.disconnect();
    await others.stop();
    await rm(data, { recursive: true, force: true });
  });
  const [first, ahead] = others.coordinators;
  /** A coordinator sweeps when it starts: over when what nobody keeps is gone. */
  const sweepAhead = async (): Promise<void> => {
    await ahead!.kill();
    const over = { sha256: "0".repeat(64), expiresMs: Date.now() - 3_600_000 };
    const folderOf = path.join(data, "blobs", blobFolder(over.sha256));
    await mkdir(folderOf, { recursive: true });
    await writeFile(path.join(folderOf, blobFileName(over)), "");
    await ahead!.respawn();
    await until("what is over to be swept", async () => !(await blobsIn(data)).some((file) => file.includes(over.sha256)));
  };
  const id = await whileDrained(others.url, others.workers[0]!.hostId, async () => {
    const submitted = await submit(50, { timeout_ms: 120_000 }, first!.url);
    await until("the input to be stored", async () => (await client.keys("sy:*:in:*")).length === 1);
    await sweepAhead();
    return submitted;
  });
  assert.equal((await jobView(first!.url, id, 60)).state, "succeeded", others.log());
  await sweepAhead();
  const answer = await call(`${first!.url}/v1/jobs/${id}/result`, { headers: { accept: "application/octet-stream" } });
  assertRight(answer, 50);
});
