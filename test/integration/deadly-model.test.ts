/** A model that takes its host's process down while it loads: a few hosts die of it, then they serve everything else and say why not this one. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { adder, zeroRequest } from "../support/adder-models.ts";
import { call } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { emptyRepository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

function deadly(): GraphBuilder {
  const graph = new GraphBuilder({ name: "deadly" });
  graph.input("x", "FP32", ["batch", 1]);
  graph.output("y", "FP32", ["batch", 1]);
  graph.node("Identity", ["x"], {}, "y");
  return graph;
}

test("a host that is started again after a model killed it does not load that model for ever", { timeout: 180_000 }, async () => {
  await using models = await emptyRepository();
  await models.add("quick", adder(1));
  const workerEnv = { NODE_OPTIONS: `--import=${new URL("../support/deadly-loads.ts", import.meta.url).href}` };
  await using cluster = await startProcesses({ models: models.folder, workers: 1, workerEnv });
  const [worker] = cluster.workers as [(typeof cluster.workers)[0]];
  await models.add("deadly", deadly());
  await until("the model to be listed", async () => (await call(`${cluster.url}/v1/models/deadly`)).status === 200);
  const body = { model: "deadly", timeout_ms: 600_000, ...zeroRequest };
  assert.equal((await call(`${cluster.url}/v1/jobs`, { body })).status, 202);
  await worker.exited;

  let deaths = 1;
  for (let isUp = false; !isUp; ) {
    isUp = await worker.respawn().then(
      () => true,
      () => false,
    );
    if (!isUp) deaths++;
    assert.ok(deaths <= 4, `it died ${deaths} times`);
  }
  const why = await until("the reason to be told", async () => {
    const { items } = (await call(`${cluster.url}/v1/models/deadly`)).json() as { items: { reason?: string }[] };
    return items[0]?.reason;
  });
  assert.match(why, /3 hosts died while they loaded this model/);
  assert.equal((await call(`${cluster.url}/v2/models/quick/infer`, { body: zeroRequest })).status, 200);
  assert.ok(worker.runs);
});
