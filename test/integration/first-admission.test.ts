/** A queue that has its first job is known to every coordinator, even where the one that admitted it dies of that very moment. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { FaultProxy } from "../chaos/faults/proxy.ts";
import { scriptOf } from "../chaos/faults/script-names.ts";
import { binaryInference, call } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { startTestRedis } from "../support/redis.ts";

test("a coordinator that is killed before it hears of its first admission has told the others of the queue", async (t) => {
  const server = await startTestRedis();
  t.after(() => server.stop());
  const url = new URL(server.url);
  const proxy = await FaultProxy.open({ host: url.hostname, port: Number(url.port), isRedis: true });
  t.after(() => proxy[Symbol.asyncDispose]());
  url.port = String(proxy.port);
  const cluster = await startProcesses({
    redis: server,
    envOf: (name) => ({ ...(name.startsWith("coordinator") && { SWITCHYARD_REDIS_URL: url.href }) }),
  });
  t.after(() => cluster.stop());
  const coordinator = cluster.coordinators[0]!;
  const redis = new Redis(server.url);
  t.after(() => redis.disconnect());
  assert.deepEqual(await redis.smembers(keys.queues), [], "no queue has had a job");
  const admitted: string[] = [];
  proxy.onCommand = (words) => {
    if (scriptOf(words) !== "admit") return undefined;
    admitted.push(tagOf(words.at(-1) ?? ""));
    return { kind: "after", call: () => coordinator.signal("SIGKILL") };
  };
  const request = binaryInference("image", [1, 64], new Float32Array(64));
  await call(`${cluster.url}/v2/models/digits/infer`, request).catch(() => {}); // it gets no answer
  await coordinator.exited;
  assert.deepEqual(await redis.smembers(keys.queues), admitted);
});
