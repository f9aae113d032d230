/** Loading and unloading by request, through real processes: what is admitted ends, all coordinators agree, and restarts change nothing. */

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { HostView } from "@switchyard/protocol";
import { adder, notRunnable, zeroRequest } from "../support/adder-models.ts";
import { type Answer, call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

let models: Repository;
let cluster: Processes;
let data: string;
before(async () => {
  models = await emptyRepository();
  for (const model of ["plain", "batched", "lasting", "replaced", "steady"]) await models.add(model, adder(10));
  await models.add("slow", slowModel(1));
  await models.add("unloadable", notRunnable());
  await models.add("unreadable", "no graph");
  await models.add("elsewhere", adder(1), { settings: "require: { labels: { site: nowhere } }\n" });
  data = await mkdtemp(path.join(tmpdir(), "switchyard-control-"));
  cluster = await startProcesses({
    coordinators: 2,
    models: models.folder,
    env: { SWITCHYARD_DATA: data },
    workerEnv: slowRuns(200),
  });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
  if (data) await rm(data, { recursive: true, force: true });
});

const control = (model: string, action: "load" | "unload", parameters?: Record<string, unknown>, coordinator = 0): Promise<Answer> =>
  call(`${cluster.urls[coordinator]}/v2/repository/models/${model}/${action}`, {
    method: "POST",
    ...(parameters && { body: { parameters } }),
  });

const infer = (model: string, coordinator = 0): Promise<Answer> =>
  call(`${cluster.urls[coordinator]}/v2/models/${model}/infer`, { body: zeroRequest });

async function indexOf(model: string, coordinator = 0): Promise<{ state: string; reason: string }> {
  const answer = await call(`${cluster.urls[coordinator]}/v2/repository/index`, { method: "POST" });
  return answer.json().find(({ name }: { name: string }) => name === model);
}

async function isHeld(model: string): Promise<boolean> {
  const { items } = (await call(`${cluster.url}/v1/hosts`)).json() as { items: HostView[] };
  return items.some(({ state, warm }) => state === "ready" && warm.some((name) => name.startsWith(`${model}@`)));
}

/** Beside one another: each has models of its own, and waits for hosts and coordinators to hear of a change. */
describe("loading and unloading by request", { concurrency: true }, () => {
  test("an unloaded model is refused by every coordinator, leaves the hosts, and comes back when it is loaded", {
    timeout: 150_000,
  }, async () => {
    assert.equal((await infer("plain")).status, 200);
    const unload = async (): Promise<Answer> => {
      const unloaded = await control("plain", "unload", { unload_dependents: true });
      assert.equal(unloaded.status, 200, `${unloaded.bytes}`);
      return infer("plain", 1);
    };
    // the machine may hold the other coordinator up, but not each time
    for (let times = 1; (await unload()).status !== 400 && times < 4; times++) assert.equal((await control("plain", "load")).status, 200);
    for (const coordinator of [0, 1]) {
      const refused = await infer("plain", coordinator);
      assert.equal(refused.status, 400);
      assert.match(refused.json().error, /Request for unknown model: 'plain' has no available versions/);
      assert.equal((await call(`${cluster.urls[coordinator]}/v2/models/plain/ready`)).status, 400);
      const job = await call(`${cluster.urls[coordinator]}/v1/jobs`, { body: { model: "plain", ...zeroRequest } });
      assert.deepEqual([job.status, job.json().code], [409, "model_unloaded"]);
    }
    await until("it to leave the host", async () => !(await isHeld("plain")));
    await until("the index to say so", async () => (await indexOf("plain")).state === "UNAVAILABLE");
    assert.match((await indexOf("plain", 1)).reason, /unloaded/);
    const loaded = await control("plain", "load", undefined, 1);
    assert.equal(loaded.status, 200, `${loaded.bytes}`);
    await until("the other coordinator to see it on the host", () => isHeld("plain"));
    assert.equal((await infer("plain", 1)).status, 200);
    await until("the other coordinator", async () => (await infer("plain")).status === 200);
    await until("its index, which hears of hosts by their beats", async () => (await indexOf("plain", 1)).state === "READY");
  });

  test("what was admitted before an unload ends", { timeout: 150_000 }, async () => {
    const body = { model: "slow", inputs: [{ name: "x", datatype: "FP32", shape: [1], data: [1] }], timeout_ms: 120_000 };
    const submit = async (at: number): Promise<string> => {
      const answer = await call(`${cluster.urls[at % 2]}/v1/jobs`, { body });
      assert.equal(answer.status, 202, `${answer.bytes}`);
      return answer.json().id;
    };
    const ids = await Promise.all(Array.from({ length: 12 }, (_, at) => submit(at)));
    assert.equal((await control("slow", "unload")).status, 200);
    assert.equal((await call(`${cluster.url}/v1/jobs`, { body })).status, 409);
    const states = (await Promise.all(ids.map((id) => jobView(cluster.url, id, 60)))).map(({ state }) => state);
    assert.deepEqual(new Set(states), new Set(["succeeded"]));
    await until("it to leave the host", async () => !(await isHeld("slow")));
  });

  test("a load may change the batch size, until the next one", { timeout: 150_000 }, async () => {
    const size = async (): Promise<number> => (await call(`${cluster.url}/v2/models/batched/config`)).json().max_batch_size;
    assert.equal((await control("batched", "load")).status, 200);
    assert.equal(await size(), 32);
    const changed = await control("batched", "load", {
      config: JSON.stringify({ max_batch_size: "16", name: "batched", backend: "onnxruntime" }),
    });
    assert.equal(changed.status, 200, `${changed.bytes}`);
    assert.equal(await size(), 16);
    assert.equal((await infer("batched")).status, 200);
    const config = JSON.stringify({ max_batch_size: 8 });
    const together = await Promise.all([0, 1, 0, 1, 0, 1].map((coordinator) => control("batched", "load", { config }, coordinator)));
    assert.deepEqual(new Set(together.map(({ status }) => status)), new Set([200]), `${together.map(({ bytes }) => bytes)}`);
    assert.equal((await control("batched", "load")).status, 200);
    assert.equal(await size(), 32);
  });

  test("a load that fails says why, and the model stays as it was", { timeout: 150_000 }, async () => {
    const asked: [string, Record<string, unknown> | undefined, RegExp][] = [
      ["unloadable", undefined, /failed to load 'unloadable'.*NoSuchOperator/],
      ["unreadable", undefined, /failed to load 'unreadable'.*ONNX/],
      ["nobody", undefined, /failed to load 'nobody'.*not found/],
      ["elsewhere", undefined, /failed to load 'elsewhere'.*site=nowhere/],
      ["steady", { config: "no json" }, /failed to load 'steady': config is no JSON/],
      ["steady", { config: '{"max_batch_size": "many"}' }, /max_batch_size/],
      ["steady", { config: '{"max_batch_sizes": 4}' }, /max_batch_sizes/],
      ["steady", { "file:2/model.onnx": "AAAA" }, /files need a config/],
      ["steady", { config: "{}", "file:model.onnx": "AAAA" }, /file:<version>\/model.onnx/],
      ["steady", { config: "{}", "file:2/model.onnx": "AAAA" }, /not a whole ONNX model/],
      ["steady", { config: "{}", "file:2/model.onnx": "AAAA", "file:2/../x": "AAAA" }, /below the version's folder/],
      ["steady", { config: "{}", "file:1/model.onnx": Buffer.from(adder(99).toBytes()).toString("base64") }, /other content/],
    ];
    for (const [model, parameters, reason] of asked) {
      const answer = await control(model, "load", parameters);
      assert.equal(answer.status, 400, `${JSON.stringify(parameters)}: ${answer.bytes}`);
      assert.match(answer.json().error, reason);
    }
    assert.equal((await control("steady", "load", { config: 4 })).status, 400);
    assert.equal((await control("steady", "load", { "file:1/model.onnx": "%%%", config: "{}" })).status, 400);
    assert.equal((await control("steady", "unload", { unload_dependents: "yes" })).status, 400);
    assert.equal((await control("nobody", "unload")).status, 404);
    assert.equal((await control("unreadable", "unload")).status, 200);
    assert.equal((await control("unreadable", "load")).status, 400);
    await until("it to be unloaded still", async () => /unloaded/.test((await indexOf("unreadable")).reason));
    assert.equal((await infer("steady")).status, 200);
  });

  test("a model may come along with its load, as a new model or as a new version", { timeout: 150_000 }, async () => {
    const file = (addend: number): string => Buffer.from(adder(addend).toBytes()).toString("base64");
    const made = await control("brought", "load", { config: "{}", "file:1/model.onnx": file(5) });
    assert.equal(made.status, 200, `${made.bytes}`);
    assert.deepEqual((await infer("brought")).json().outputs[0].data, [5]);
    assert.equal((await control("brought", "load", { config: '{"max_batch_size": 4}', "file:1/model.onnx": file(5) })).status, 200);
    assert.equal((await control("replaced", "load", { config: "{}", "file:2/model.onnx": file(6) })).status, 200);
    assert.deepEqual((await infer("replaced")).json().outputs[0].data, [6]);
  });
});

test("what was asked outlives coordinators and hosts", { timeout: 150_000 }, async () => {
  assert.equal((await infer("lasting")).status, 200);
  assert.equal((await control("lasting", "unload")).status, 200);
  const processes = [...cluster.coordinators, ...cluster.workers];
  await Promise.all(processes.map((process) => process.kill()));
  await Promise.all(processes.map((process) => process.respawn()));
  for (const coordinator of [0, 1]) {
    await until("a refusal of the unloaded model", async () => (await infer("lasting", coordinator)).status === 400);
  }
  await until("the old host to be forgotten, and no new one to have it", async () => !(await isHeld("lasting")));
  assert.equal((await control("lasting", "load")).status, 200);
  assert.equal((await infer("lasting")).status, 200);
});
