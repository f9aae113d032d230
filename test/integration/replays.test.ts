/** Answers that outlive what made them: repeats and results of a model that has left, and results that have left their job. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { frameParts, joinParts, type ModelConfig } from "@switchyard/protocol";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { openAccess } from "../../coordinator/src/application/access.ts";
import { DeadLetters } from "../../coordinator/src/application/dead-letters.ts";
import { DurableJobs } from "../../coordinator/src/application/durable-jobs.ts";
import { Forecasts } from "../../coordinator/src/application/forecasts.ts";
import { Jobs } from "../../coordinator/src/application/jobs.ts";
import { Waiters } from "../../coordinator/src/application/waiters.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { bodyBudget } from "../../coordinator/src/doors/door-context.ts";
import { createHttpServer } from "../../coordinator/src/doors/http-server.ts";
import { TurnWait } from "../../coordinator/src/doors/turn-wait.ts";
import type { ModelRegistry } from "../../coordinator/src/ports/model-registry.ts";
import { call } from "../support/calls.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { type HostJob, type HostOutcome, TestHost } from "../support/job-rig.ts";
import { ask, callTool, withTasks } from "../support/mcp-client.ts";
import { memoryDrains, memoryOverview } from "../support/memory-figures.ts";
import { memoryRig } from "../support/memory-rig.ts";
import { floats, tinyRequest, tinyScores } from "../support/open-door.ts";
import { until } from "../support/until.ts";

interface Served {
  url: string;
  /** Runs the next job of the model to this outcome. */
  run(outcome: Pick<HostOutcome, "outcome" | "outputs" | "error">): Promise<void>;
  removeModel(): void;
  failModel(): void;
}

/** A door over real jobs in the memory store, with one model. */
async function serve(t: TestContext, config: ModelConfig = {}, resultTtlMs = 60_000): Promise<Served> {
  const { offers, side, store } = memoryRig();
  const signature = {
    inputs: [{ name: "image", datatype: "FP32" as const, shape: [-1, 4] }],
    outputs: [{ name: "scores", datatype: "FP32" as const, shape: [-1, 3] }],
  };
  const about = { model: "tiny", version: 1, signature, labels: { scores: ["zero", "one", "two"] } };
  let models = fakeModels([about]);
  Object.assign(models.list()[0]!.version, { config });
  const { tag } = models.list()[0]!.version;
  const registry: ModelRegistry = {
    ...models,
    list: () => models.list(),
    versions: (model) => models.versions(model),
    resolve: (model, version) => models.resolve(model, version),
    byTag: (wanted) => models.byTag(wanted),
    tags: () => models.tags(),
  };
  const hosts = { list: () => [], matching: () => 1 };
  const waiters = new Waiters(store, systemClock);
  await store.onNotice((notice) => waiters.onNotice(notice));
  const metrics = prometheusMetrics({ version: "1.2.3", processMetrics: false });
  const shared = { models: registry, hosts, metrics, clock: systemClock };
  const forecasts = new Forecasts({
    history: { read: async () => new Map() },
    hosts: { matching: () => 1, devices: () => [], isWarm: () => true },
    ...{ models: registry, store, clock: systemClock, mostQueueJobs: 1_000, mostQueueBytes: 1e9 },
  });
  const jobs = new Jobs({ ...shared, store, forecasts, waiters, resultTtlMs, onAdmitting() {}, onAdmitted() {}, expectedHosts: 0 });
  const server = createHttpServer({
    ...shared,
    jobs,
    deadLetters: new DeadLetters({ jobs, durable: new DurableJobs(undefined), store }),
    statistics: { of: async () => [] },
    drains: memoryDrains(),
    overview: memoryOverview({ hosts, models: registry }),
    access: openAccess,
    bodies: bodyBudget({ maxBodyBytes: 10_000_000 }),
    config: { maxBodyBytes: 10_000_000, corsOrigins: [], resultTtlMs },
    turns: new TurnWait(systemClock),
    log: { info() {}, warn() {}, error() {} },
    leaving: () => false,
    draining: () => false,
    version: "1.2.3",
  });
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  t.after(() => server.close());
  const host = new TestHost(side, tag, "host-1");
  let taken = 0;
  let ticket = "";
  let claimed: HostJob[] = [];
  return {
    url: `http://127.0.0.1:${port}`,
    async run(outcome) {
      if (claimed.length === 0) {
        ticket = await until("a ticket", async () => offers.of(tag)[taken]);
        taken++;
        await host.take(ticket);
        claimed = await host.batch(ticket);
      }
      const job = claimed.shift()!;
      await host.commit(ticket, [{ id: job.id, fence: job.fence, ...outcome }]);
      if (claimed.length === 0) await host.claim(ticket, { lingerMs: 0 });
    },
    removeModel: () => {
      models = fakeModels([]);
    },
    failModel: () => {
      models = fakeModels([{ ...about, failure: "the graph ends early" }]);
    },
  };
}

const succeeded = { outcome: "succeeded", outputs: joinParts(frameParts(tinyScores())) } as const;
const infer = (url: string, key: string, extra = {}) =>
  call(`${url}/v2/models/tiny/infer`, { body: tinyRequest(extra), headers: { "idempotency-key": key } });

test("a repeat is answered although its model failed or was removed meanwhile, whatever its form", async (t) => {
  const served = await serve(t);
  const classified = { outputs: [{ name: "scores", parameters: { classification: 1 } }] };
  const raw = () =>
    call(`${served.url}/v2/models/tiny/infer`, {
      body: floats(1, 2, 3, 4),
      headers: { "inference-header-content-length": "0", "idempotency-key": "raw" },
    });
  const submit = () =>
    call(`${served.url}/v1/jobs`, { body: tinyRequest({ model: "tiny" }), headers: { "idempotency-key": "job", prefer: "wait=10" } });
  const calls = [() => infer(served.url, "plain"), () => infer(served.url, "classes", classified), raw, submit];
  const firsts = [];
  for (const send of calls) {
    const answer = send();
    await served.run(succeeded);
    firsts.push(await answer);
  }
  assert.deepEqual(firsts[1]!.json().outputs[0].data, ["0.5:1:one"]);
  for (const change of [served.failModel, served.removeModel]) {
    change();
    for (const [at, send] of calls.entries()) {
      const again = await send();
      assert.deepEqual([again.status, again.headers["idempotent-replayed"]], [200, "true"], again.bytes.toString());
      if (at !== 1) assert.deepEqual(again.bytes, firsts[at]!.bytes);
    }
  }
  assert.deepEqual((await infer(served.url, "classes", classified)).json().outputs[0].data, ["0.5:1"], "labels went with the model");
  assert.equal((await infer(served.url, "plain", { id: "other" })).status, 422);
  assert.equal((await infer(served.url, "new")).status, 404);
});

test("a stored result is answered after its model was removed", async (t) => {
  const served = await serve(t);
  const outputs = [{ name: "scores", parameters: { classification: 2 } }];
  const submitted = await call(`${served.url}/v1/jobs`, { body: tinyRequest({ model: "tiny", outputs }) });
  await served.run(succeeded);
  served.removeModel();
  const result = await call(`${served.url}${submitted.json().links.result}`);
  assert.equal(result.status, 200, result.bytes.toString());
  assert.deepEqual(result.json().outputs[0].data, ["0.5:1", "0.25:0"]);
  assert.equal((await call(`${served.url}${submitted.json().links.self}`)).json().state, "succeeded");
});

test("a repeat of a failed inference is the same failure, and says that it is a repeat", async (t) => {
  const served = await serve(t);
  const first = infer(served.url, "bad");
  await served.run({ outcome: "failed", error: { code: "run_failed", detail: "the run threw", retryable: false } });
  assert.deepEqual([(await first).status, (await first).headers["idempotent-replayed"]], [500, undefined]);
  const again = await infer(served.url, "bad");
  assert.deepEqual([again.status, again.headers["idempotent-replayed"], again.json()], [500, "true", { error: "the run threw" }]);
});

test("a job with more items than its model takes is a malformed request, on both interfaces", async (t) => {
  const served = await serve(t, { max_batch_items: 2 });
  const inputs = [{ name: "image", datatype: "FP32", shape: [3, 4], data: new Array(12).fill(1) }];
  const submitted = await call(`${served.url}/v1/jobs`, { body: { model: "tiny", inputs } });
  assert.deepEqual([submitted.status, submitted.json().code], [400, "invalid_request"]);
  assert.match(submitted.json().detail, /3 items; model tiny takes at most 2/);
  assert.equal((await call(`${served.url}/v2/models/tiny/infer`, { body: { inputs } })).status, 400);
});

test("a batch that outlasts what its first job is kept for is a task until its end, with all results", async (t) => {
  const keptMs = 300;
  const served = await serve(t, {}, keptMs);
  const args = { model: "tiny", items: [{ image: [[1, 2, 3, 4]] }, { image: [[5, 6, 7, 8]] }], task: true };
  const { result: task } = await callTool(served.url, "infer_batch", args, { capabilities: withTasks });
  const look = async () => {
    const { error, result } = await ask(served.url, { method: "tasks/get", params: { taskId: task.taskId }, capabilities: withTasks });
    assert.equal(error, undefined, JSON.stringify(error));
    return result;
  };
  await served.run(succeeded);
  await sleep(keptMs + 200);
  const midway = await look();
  assert.deepEqual([midway.status, midway.statusMessage], ["working", "1 of 2 items done"]);
  await served.run(succeeded);
  const { result, status } = await until("the end", async () => {
    const now = await look();
    return now.status !== "working" && now;
  });
  assert.deepEqual([status, result.structuredContent.succeeded], ["completed", 2], JSON.stringify(result));
});

test("a batch of a model that failed is refused before its items are read", async (t) => {
  const served = await serve(t);
  served.failModel();
  const { result } = await callTool(served.url, "infer_batch", { model: "tiny", items: [{ image: "nonsense" }] });
  assert.equal(result._meta["switchyard/error"].code, "model_failed");
});

test("a call over the Model Context Protocol is answered from its key although its model failed or was removed meanwhile", async (t) => {
  const served = await serve(t);
  const args = { model: "tiny", inputs: { image: [[1, 2, 3, 4]] }, idempotency_key: "k" };
  const first = callTool(served.url, "infer", args);
  await served.run(succeeded);
  const { outputs } = (await first).result.structuredContent;
  for (const change of [served.failModel, served.removeModel]) {
    change();
    const { result } = await callTool(served.url, "infer", args);
    assert.deepEqual([result.structuredContent?.outputs, result._meta["switchyard/replayed"]], [outputs, true], JSON.stringify(result));
  }
  const other = await callTool(served.url, "infer", { ...args, inputs: { image: [[9, 9, 9, 9]] } });
  assert.equal(other.result._meta["switchyard/error"].code, "idempotency_key_reused");
  const unknown = await callTool(served.url, "infer", { ...args, idempotency_key: "new" });
  assert.equal(unknown.result._meta["switchyard/error"].code, "model_not_found");
});
