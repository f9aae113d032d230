/** A worker and models that it cannot have: gone, broken for a while, missing only here, or more than it can turn to at once. */

import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { JobView } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { emptyRepository, slowModel, slowModelOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [floats("x", [1], [1])];

async function submit(url: string, model: string, more: Record<string, unknown> = {}): Promise<string> {
  const answer = await call(`${url}/v1/jobs`, { body: { model, inputs, timeout_ms: 60_000, ...more } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return (answer.json() as JobView).id;
}

test("jobs of a model that left the repository wait quietly and expire, and disturb no other model", async () => {
  await using models = await emptyRepository();
  await models.add("gone", slowModel(2));
  await models.add("here", slowModel(1));
  await using cluster = await startProcesses({ models: models.folder, workers: 0 });
  const { url } = cluster;
  const ids = [await submit(url, "gone", { timeout_ms: 12_000 }), await submit(url, "gone", { timeout_ms: 12_000 })];
  await rm(path.join(models.folder, "gone"), { recursive: true });
  await until("the model to be unlisted", async () => (await call(`${url}/v1/models/gone`)).status === 404, { withinMs: 11_000 });
  await cluster.addWorker();
  const redis = new Redis(cluster.redis.url);
  const tickets = async (): Promise<number> => Number(await redis.hget(`${keys.base(tagOf(ids[0]!))}clock`, "tickets"));
  const before = await tickets();
  await sleep(1_500);
  const issued = (await tickets()) - before;
  redis.disconnect();
  assert.ok(issued <= 5, `${issued} tickets in 1.5 s`);
  assert.equal((await call(`${url}/v2/models/here/infer`, { body: { inputs } })).status, 200);
  for (const id of ids) assert.equal((await jobView(url, id, 20)).state, "expired");
});

test("a model that nobody has asked for yet is answered while eight others, just as cold, have long queues", async (t) => {
  await using models = await emptyRepository();
  const slow = await slowModelOf(50);
  const bytes = slow.toBytes();
  // a repository of nine is not loaded ahead of time
  for (let at = 1; at <= 9; at++) await models.add(`cold-${at}`, bytes);
  await using cluster = await startProcesses({ models: models.folder });
  const { url } = cluster;
  const backlog: string[] = [];
  for (let round = 0; round < 60; round++) {
    const ids = await Promise.all(Array.from({ length: 8 }, (_, at) => submit(url, `cold-${at + 1}`)));
    backlog.push(...ids);
  }
  const answer = await call(`${url}/v2/models/cold-9/infer`, { body: { inputs, parameters: { timeout: 10_000_000 } } });
  assert.equal(answer.status, 200, answer.bytes.toString());
  const last = await Promise.all(backlog.slice(-8).map((id) => jobView(url, id)));
  t.diagnostic(`answered in ${answer.tookMs.toFixed(0)} ms`);
  assert.ok(
    last.every(({ state }) => state === "queued"),
    `too late to say anything: ${last.map(({ state }) => state)}`,
  );
});

test("a model that could not be loaded is tried again soon, and served without a restart of the worker", async (t) => {
  await using models = await emptyRepository();
  await using seen = await emptyRepository();
  await models.add("late", slowModel(1));
  await using cluster = await startProcesses({ models: models.folder, workers: 0 });
  const { url } = cluster;
  await cluster.addWorker({ SWITCHYARD_MODELS: seen.folder });
  const ask = () => call(`${url}/v2/models/late/infer`, { body: { inputs, parameters: { timeout: 2_000_000 } } });
  const refused = await ask();
  assert.equal(refused.status, 503, refused.bytes.toString());
  await cp(models.folder, seen.folder, { recursive: true });
  const backMs = performance.now();
  await until("the model to be served", async () => (await ask()).status === 200, {
    withinMs: 8_000,
    everyMs: 100,
    show: () => cluster.log(),
  });
  t.diagnostic(`served ${(performance.now() - backMs).toFixed(0)} ms after its file was there`);
});

test("a worker that cannot load what another can takes no attempt from any job", async () => {
  await using models = await emptyRepository();
  await using none = await emptyRepository();
  const names = Array.from({ length: 10 }, (_, at) => `m-${at}`);
  for (const name of names) await models.add(name, slowModel(1));
  await using cluster = await startProcesses({ models: models.folder, workers: 1 });
  const { url } = cluster;
  const blind = await cluster.addWorker({ SWITCHYARD_MODELS: none.folder });
  await until("both hosts to be listed", async () => (await call(`${url}/v1/hosts`)).json().items.length === 2);
  const ids: string[] = [];
  for (let round = 0; round < 5; round++) ids.push(...(await Promise.all(names.map((name) => submit(url, name, { max_attempts: 1 })))));
  const ended = await Promise.all(ids.map((id) => jobView(url, id, 30)));
  for (const { attempt, error, host, state } of ended) {
    assert.deepEqual([state, attempt, host], ["succeeded", 1, cluster.workers[0]!.name], JSON.stringify(error));
  }
  assert.match(blind.log(), /model_failed/, "it was asked, too");
});
