/** The Model Context Protocol with real processes: pictures through a model, batches that outlive a coordinator, clients between coordinators. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobView } from "@switchyard/protocol";
import { digestOfSecret } from "@switchyard/protocol/api-keys";
import { PNG } from "pngjs";
import { call } from "../support/calls.ts";
import { whileDrained } from "../support/drained-host.ts";
import { ask, callTool, connectMcp, eras, withTasks } from "../support/mcp-client.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const heldOut: { images: string[]; labels: string } = JSON.parse(
  readFileSync(new URL("../data/digits/held-out.json", import.meta.url), "utf8"),
);

/** One of the pictures that the model has not seen, dark on white and four times as large. */
function pngOf(pixels: string): string {
  const image = new PNG({ width: 32, height: 32 });
  for (let y = 0; y < 32; y++) {
    for (let x = 0; x < 32; x++) {
      const ink = Number.parseInt(pixels[(y >> 2) * 8 + (x >> 2)]!, 17);
      const grey = 255 - Math.round((ink * 255) / 16);
      image.data.set([grey, grey, grey, 255], (y * 32 + x) * 4);
    }
  }
  return PNG.sync.write(image).toString("base64");
}

interface Scored {
  classes: { probabilities: { class: string; value: number }[] };
  outputs: { probabilities: number[][]; label: number[] };
}

let models: Repository;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  await models.add("slow", slowModel(1));
  await models.add("digits", readFileSync(new URL("../../models/digits/1/model.onnx", import.meta.url)), {
    settings: readFileSync(new URL("../../models/digits/model.yaml", import.meta.url), "utf8"),
  });
  await writeFile(
    path.join(models.folder, "digits", "labels.txt"),
    readFileSync(new URL("../../models/digits/labels.txt", import.meta.url)),
  );
  cluster = await startProcesses({ coordinators: 2, models: models.folder, workerEnv: slowRuns(250) });
  for (const url of cluster.urls) {
    for (const model of ["slow", "digits"]) await until(model, async () => (await call(`${url}/v2/models/${model}`)).status === 200);
  }
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

for (const era of eras) {
  test(`a ${era} client sends pictures of digits and gets their classes and probabilities`, async (t) => {
    const client = await connectMcp(t, cluster.url, { era });
    const { tools } = await client.listTools();
    assert.ok(tools.some(({ name }) => name === "infer_digits"));
    let right = 0;
    for (let at = 0; at < 20; at++) {
      const image = { data: pngOf(heldOut.images[at]!), mimeType: "image/png" };
      const { content, isError, structuredContent } = await client.callTool({ name: "infer_digits", arguments: { inputs: { image } } });
      assert.equal(isError, undefined, JSON.stringify(content));
      const { classes, outputs } = structuredContent as unknown as Scored;
      const [best] = classes.probabilities;
      assert.equal(outputs.probabilities[0]!.length, 10);
      assert.equal(best!.value, Math.max(...outputs.probabilities[0]!));
      assert.equal(best!.class, String(outputs.label[0]));
      if (best!.class === heldOut.labels[at]) right += 1;
    }
    assert.ok(right >= 18, `${right} of 20`);
  });
}

test("a long batch as a task outlives the coordinator that took it, and its progress rises", async (t) => {
  const [first, second] = cluster.coordinators as [(typeof cluster.coordinators)[0], (typeof cluster.coordinators)[0]];
  const items = Array.from({ length: 24 }, (_, at) => ({ x: [at] }));
  const made = await callTool(first.url, "infer_batch", { model: "slow", items }, { capabilities: withTasks });
  const task = made.result;
  assert.equal(task.resultType, "task", JSON.stringify(made));
  await first.kill();
  t.after(async () => {
    if (!first.runs) await first.respawn();
  });
  const look = async () =>
    (await ask(second.url, { method: "tasks/get", params: { taskId: task.taskId }, capabilities: withTasks })).result;
  const seen: number[] = [];
  let now = await look();
  for (; now.status === "working"; now = await look()) {
    seen.push(now._meta["switchyard/progress"].progress);
    await sleep(200);
  }
  assert.equal(now.status, "completed", JSON.stringify(now));
  assert.ok(new Set(seen).size >= 4, `${seen}`);
  assert.ok(
    seen.every((one, at) => at === 0 || one >= seen[at - 1]!),
    `${seen}`,
  );
  const { items: answered, succeeded } = now.result.structuredContent;
  assert.deepEqual([succeeded, answered.length], [24, 24]);
  const alone = await callTool(second.url, "infer_slow", { inputs: { x: [5] } });
  assert.deepEqual(answered[5].outputs, alone.result.structuredContent.outputs);
  await first.respawn();
  const again = (await ask(first.url, { method: "tasks/get", params: { taskId: task.taskId }, capabilities: withTasks })).result;
  assert.deepEqual(again, now);
});

test("a task that is cancelled stops: what waits is not run any more", async () => {
  const items = Array.from({ length: 100 }, (_, at) => ({ x: [at] })); // 25 s of work: most of it waits, however late the cancellation comes
  const { result: task } = await callTool(cluster.url, "infer_batch", { model: "slow", items }, { capabilities: withTasks });
  const about = { params: { taskId: task.taskId }, capabilities: withTasks };
  const look = async () => (await ask(cluster.url, { method: "tasks/get", ...about })).result;
  await until("the first items", async () => (await look())._meta["switchyard/progress"].progress >= 2);
  assert.equal((await ask(cluster.urls[1]!, { method: "tasks/cancel", ...about })).error, undefined);
  const { _meta, status } = await look();
  assert.deepEqual([status, _meta["switchyard/progress"].progress], ["cancelled", 100]);
  const { json } = await call(`${cluster.url}/v1/jobs?model=slow&state=cancelled&limit=200`);
  assert.ok((json() as { items: unknown[] }).items.length >= 30);
});

test("a call whose client goes away is cancelled in the queue", async (t) => {
  const client = await connectMcp(t, cluster.url, { era: "modern" });
  const jobs = async (state: string) =>
    (await call(`${cluster.url}/v1/jobs?model=slow&state=${state}&limit=200`)).json().items as JobView[];
  const before = new Set((await jobs("cancelled")).map(({ id }) => id));
  await whileDrained(cluster.url, "worker-1", async () => {
    const leave = new AbortController();
    const held = client.callTool({ name: "infer_slow", arguments: { inputs: { x: [2] } } }, { signal: leave.signal });
    const refused = assert.rejects(held);
    const [waiting] = await until("it to wait", async () => {
      const queued = await jobs("queued");
      return queued.length > 0 && queued;
    });
    leave.abort();
    await refused;
    const [newest] = await until("its cancellation", async () => {
      const cancelled = (await jobs("cancelled")).filter(({ id }) => !before.has(id));
      return cancelled.length > 0 && cancelled;
    });
    assert.deepEqual([newest!.id, newest!.attempt], [waiting!.id, 0]);
  });
});

test("two coordinators serve one modern client, and a question asked by one is answered at the other", async (t) => {
  let turn = 0;
  const between: typeof fetch = (input, init) => {
    const at = new URL(String(input instanceof Request ? input.url : input));
    at.port = new URL(cluster.urls[turn++ % 2]!).port;
    return fetch(at, init);
  };
  const client = await connectMcp(t, cluster.url, { era: "modern", fetch: between, onQuestion: () => ({ x: 0.5 }) });
  for (let at = 0; at < 6; at++) assert.ok((await client.listTools()).tools.length >= 9);
  const answer = await client.callTool({ name: "infer_slow", arguments: {} });
  assert.equal(answer.isError, undefined, JSON.stringify(answer));
  assert.ok(turn >= 4);
  const { result } = await callTool(cluster.urls[0]!, "job_submit", { model: "slow", inputs: { x: [1] } });
  const elsewhere = await callTool(cluster.urls[1]!, "job_wait", { job_id: result.structuredContent.job_id });
  assert.equal(elsewhere.result.structuredContent.state, "succeeded");
});

test("keys and tenants: another tenant's job is no job, and its task is unknown", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-keys-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = path.join(folder, "keys.yaml");
  const line = (id: string, tenant: string, scopes: string) =>
    `- {id: ${id}, sha256: ${digestOfSecret(`secret-of-${id}`)}, tenant: ${tenant}, weight: 1, scopes: [${scopes}]}`;
  await writeFile(file, `${line("one", "red", "submit, read, operate")}\n${line("two", "blue", "submit, read")}\n`);
  await using guarded = await startProcesses({ env: { SWITCHYARD_API_KEYS: file }, apiKey: "secret-of-one" });
  const key = "secret-of-one";
  await until("digits", async () => (await callTool(guarded.url, "models_search", {}, { key })).result?.structuredContent.total === 1);
  const image = { data: pngOf(heldOut.images[0]!), mimeType: "image/png" };
  const args = { inputs: { image }, task: true };
  const { result: task } = await callTool(guarded.url, "infer_digits", args, { key, capabilities: withTasks });
  const get = (of: string) => ask(guarded.url, { method: "tasks/get", params: { taskId: task.taskId }, key: of, capabilities: withTasks });
  await until("its end", async () => (await get(key)).result.status === "completed");
  assert.equal((await get("secret-of-two")).error.code, -32_602);
  const { result } = await callTool(guarded.url, "job_get", { job_id: task.taskId }, { key: "secret-of-two" });
  assert.equal(result._meta["switchyard/error"].code, "job_not_found");
  await assert.rejects(connectMcp(t, guarded.url, { era: "legacy" }));
  assert.ok((await (await connectMcp(t, guarded.url, { era: "legacy", key })).listTools()).tools.length >= 8);
});
