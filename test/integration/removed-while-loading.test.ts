/** A real worker, a real Redis, and in the place of a coordinator one that hands over a file when the test says so. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { ChangingFacts, ModelVersion } from "@switchyard/protocol";
import { readGraph } from "@switchyard/protocol/onnx";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { adder } from "../support/adder-models.ts";
import { startProcesses } from "../support/processes.ts";
import { startTestRedis } from "../support/redis.ts";
import { startScriptedServer } from "../support/scripted-server.ts";
import { until } from "../support/until.ts";

test("a version that is removed while its files are fetched does not stay in the host's memory", { timeout: 120_000 }, async (context) => {
  const bytes = adder(10, 2).toBytes();
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const files = [{ name: "model.onnx", sha256, sizeBytes: bytes.length }];
  const { signature } = readGraph(bytes);
  const tag = queueTag("slow", sha256);
  const version: ModelVersion = {
    ...{ model: "slow", version: 1, digest: sha256, tag, sizeBytes: bytes.length, path: "model.onnx" },
    ...{ signature, config: {}, files },
  };
  const removed = Promise.withResolvers<void>();
  await using server = await startScriptedServer(async (_request, response) => {
    await removed.promise;
    response.end(bytes);
  });
  const data = await mkdtemp(path.join(tmpdir(), "switchyard-slow-"));
  context.after(() => rm(data, { recursive: true, force: true }));
  const store = await startTestRedis();
  context.after(() => store.stop());
  const redis = new Redis(store.url);
  context.after(async () => redis.disconnect());
  await redis.set(keys.modelsRevision, "1"); // a host does not wait for a registry that is empty
  const env = { SWITCHYARD_DATA: data, SWITCHYARD_URL: server.url };
  await using cluster = await startProcesses({ coordinators: 0, redis: store, workerEnv: env });
  const { incarnation } = cluster.workers[0]!;
  const told = async (field: string): Promise<string> => (await redis.hget(keys.host(incarnation), field)) ?? "";
  const isLoaded = async (): Promise<boolean> => tag in (JSON.parse(await told("changing")) as ChangingFacts).loaded;

  await redis.hset(keys.models, "slow@1", JSON.stringify(version));
  await redis.incr(keys.modelsRevision);
  await redis.hset(keys.placement, incarnation, JSON.stringify({ load: [tag], drop: [], keep: [] }));
  await server.request(1);
  await redis.del(keys.models, keys.placement);
  await redis.incr(keys.modelsRevision);
  for (let beats = 0; beats < 3; beats++) {
    const before = await told("beat");
    await until("a beat, after which the host looks at the registry", async () => (await told("beat")) !== before);
  }
  removed.resolve();
  await until("it to be loaded", isLoaded);
  await until("it to be gone", async () => !(await isLoaded()));
  assert.ok(cluster.workers[0]!.runs);
});
