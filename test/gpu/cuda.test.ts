/** npm run test:gpu: the real GPU path, where a GPU and ONNX Runtime's CUDA libraries are. Elsewhere it is skipped, and says what is missing. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { HostView, JobView, ModelView } from "@switchyard/protocol";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { seededRandom } from "../../scripts/seeded-random.ts";
import { findGpus } from "../../worker/src/capabilities/nvidia-smi.ts";
import { systemClock } from "../../worker/src/clock.ts";
import { loadSession, supportedProviders } from "../../worker/src/runtime/onnx-runtime.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { directRun, distance, emptyRepository, layersModel, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** Why the GPU path cannot be shown here. */
async function whyNot(): Promise<string | undefined> {
  const { gpus, problem } = await findGpus(systemClock);
  if (gpus.length === 0) return problem ?? "no GPU: there is no nvidia-smi on PATH";
  if ((await supportedProviders()).includes("cuda")) return undefined;
  const graph = new GraphBuilder({ name: "probe" });
  graph.input("x", "FP32", [1]);
  graph.output("y", "FP32", [1]);
  graph.node("Abs", ["x"], {}, "y");
  const failure = await loadSession({ path: "probe", bytes: graph.toBytes(), providers: ["cuda"], threads: 1 }).then(
    () => "unknown",
    (error: Error) => error.message,
  );
  return `${gpus[0]!.name} is there, but ONNX Runtime cannot use CUDA: ${failure}`;
}

const missing = await whyNot();

test("a model that requires CUDA runs on the GPU and answers as on the CPU", { skip: missing ?? false }, async () => {
  await using models = await emptyRepository();
  const graph = layersModel(4);
  await models.add("on-gpu", graph, { settings: "max_batch_items: 8\nrequire: { providers: [cuda], gpu_memory_mb: 1000 }\n" });
  await models.add("anywhere", graph, { settings: "max_batch_items: 8\n" });
  await using cluster = await startProcesses({ models: models.folder, env: { SWITCHYARD_PROVIDERS: "cuda" } });
  // this machine has a GPU: a worker that is not to have it must not see it
  const cpu = await cluster.addWorker({ SWITCHYARD_PROVIDERS: "cpu", CUDA_VISIBLE_DEVICES: "-1" });
  const { url } = cluster;
  const hosts = (await call(`${url}/v1/hosts`)).json().items as HostView[];
  const gpuHost = hosts.find(({ id }) => id === cluster.workers[0]!.name)!;
  assert.match(gpuHost.device, /^cuda\//);
  assert.ok(gpuHost.gpus.length > 0 && gpuHost.providers.includes("cuda"));
  const rows = rowsOf(32);
  const expected = await directRun(graph, rows);
  const ids = await Promise.all(
    rows.map(async (row) => {
      const answer = await call(`${url}/v1/jobs`, { body: { model: "on-gpu", inputs: [floats("x", [1, 32], row)] } });
      assert.equal(answer.status, 202, answer.bytes.toString());
      return (answer.json() as JobView).id;
    }),
  );
  for (const [at, id] of ids.entries()) {
    const { error, host, state } = await jobView(url, id, 60);
    assert.deepEqual([state, host === cpu.name && cpu.name], ["succeeded", false], JSON.stringify(error));
    const result = (await call(`${url}/v1/jobs/${id}/result`)).json().outputs[0].data as number[];
    assert.ok(distance(result, expected[at]!) < 1e-2, `row ${at} differs from the CPU by ${distance(result, expected[at]!)}`);
  }
  const plain = await call(`${url}/v1/hosts/${cpu.name}`);
  assert.deepEqual((plain.json() as HostView).providers, ["cpu"]);
  const { metrics } = gpuHost;
  await until("the GPU host to be ready", async () => (await call(`http://${metrics}/readyz`)).status === 200);
  const model = (await call(`${url}/v1/models/on-gpu`)).json().items[0] as ModelView;
  assert.deepEqual(model.warm_on, [gpuHost.id]);
});

/** `x` FP32 [-1,3,32,32] → `y` FP32 [-1,16]: two convolutions and a mean. */
function convolutions(): GraphBuilder {
  const random = seededRandom(7);
  const weights = (...shape: number[]) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return Float32Array.from({ length: count }, () => random.normal() / Math.sqrt(count / shape[0]!));
  };
  const graph = new GraphBuilder({ name: "convolutions" });
  const x = graph.input("x", "FP32", ["batch", 3, 32, 32]);
  graph.output("y", "FP32", ["batch", 16]);
  const first = graph.weight("first", [16, 3, 3, 3], weights(16, 3, 3, 3));
  const second = graph.weight("second", [16, 16, 3, 3], weights(16, 16, 3, 3));
  const seen = graph.node("Relu", [graph.node("Conv", [x, first])]);
  const mean = graph.node("GlobalAveragePool", [graph.node("Conv", [seen, second])]);
  graph.node("Flatten", [mean], {}, "y");
  return graph;
}

test("a model of convolutions gives each job its own answer on the GPU, whatever comes together; told: whether batches are filled up", {
  skip: missing ?? false,
}, async (t) => {
  await using models = await emptyRepository();
  const graph = convolutions();
  await models.add("on-gpu", graph, { settings: "max_batch_items: 8\n" });
  await using cluster = await startProcesses({ models: models.folder, env: { SWITCHYARD_PROVIDERS: "cuda" } });
  const { url } = cluster;
  const itemShape = [1, 3, 32, 32];
  const random = seededRandom(3);
  const rows = Array.from({ length: 37 }, () => Float32Array.from({ length: 3 * 32 * 32 }, () => random.normal()));
  const expected = await directRun(graph, rows, itemShape);
  const tookMs: number[] = [];
  for (let from = 0, count = 1; from < rows.length; from += count, count += 1) {
    const startedMs = performance.now();
    await Promise.all(
      rows.slice(from, from + count).map(async (row, at) => {
        const answer = await call(`${url}/v2/models/on-gpu/infer`, { body: { inputs: [floats("x", itemShape, row)] } });
        assert.equal(answer.status, 200, answer.bytes.toString());
        const far = distance(answer.json().outputs[0].data, expected[from + at]!);
        assert.ok(far < 1e-2, `row ${from + at} differs from the CPU by ${far}`);
      }),
    );
    tookMs.push(Math.round(performance.now() - startedMs));
  }
  const [model] = (await call(`${url}/v1/models/on-gpu`)).json().items as ModelView[];
  t.diagnostic(`${model!.batching?.reason}; rounds of 1, 2, 3 … jobs took ${tookMs.join(", ")} ms`);
});
