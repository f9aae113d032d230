/** Redis missing, killed and frozen: callers hear of it soon, nothing of ours is restarted, and no acknowledged job is lost. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { type Answer, call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { startTestRedis } from "../support/redis.ts";
import { emptyRepository, layersModel, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** What callers are promised while the store is away, 2.5 s, and what a busy machine may add; a call that hangs hears nothing before it is back. */
const toldMs = 2_500 + 2_500;
const frozenForMs = 8_000;
const recoveredMs = 8_000;
const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const inputs = [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rowsOf(1)[0]!] }];

function assertTold(answer: Answer): void {
  assert.equal(answer.status, 503, answer.bytes.toString());
  assert.ok(Number(answer.headers["retry-after"]) >= 1, "without Retry-After");
  assert.ok(answer.tookMs <= toldMs, `told after ${answer.tookMs.toFixed(0)} ms`);
}

function assertProblem(answer: Answer): void {
  assertTold(answer);
  assert.match(String(answer.headers["content-type"]), /^application\/problem\+json/);
  assert.equal(answer.json().code, "store_unavailable", answer.bytes.toString());
}

const submit = (url: string) => call(`${url}/v1/jobs`, { body: { model: "layers", inputs } });
const infer = (url: string) => call(`${url}/v2/models/layers/infer`, { body: { inputs } });

/** Readiness goes red, liveness stays, new calls of both doors are told. */
async function assertAway(url: string): Promise<void> {
  assertProblem(await submit(url));
  assertTold(await infer(url));
  await until("readiness to go red", async () => (await call(`${url}/readyz`)).status === 503);
  assert.equal((await call(`${url}/livez`)).status, 200);
}

async function untilServing(cluster: Processes, withinMs: number): Promise<number> {
  const startMs = performance.now();
  await until("inference to work again", async () => (await infer(cluster.url)).status === 200, { withinMs, show: () => cluster.log() });
  await until("readiness to return", async () => (await call(`${cluster.url}/readyz`)).status === 200);
  return performance.now() - startMs;
}

/** What was acknowledged before is on the disk, without the second that Redis usually takes for it: the host that is stopped may not be silent for long. */
async function untilOnDisk(redisUrl: string): Promise<void> {
  const client = new Redis(redisUrl);
  await client.config("SET", "appendfsync", "always");
  await client.set("test:on-disk", "1");
  client.disconnect();
}

/** A coordinator that is expected to end by itself. */
async function startAlone(redisUrl: string): Promise<{ code: number | null; said: string }> {
  const addresses = { SWITCHYARD_HTTP: "127.0.0.1:0", SWITCHYARD_GRPC: "127.0.0.1:0", SWITCHYARD_METRICS: "127.0.0.1:0" };
  const env = { ...process.env, SWITCHYARD_REDIS_URL: redisUrl, ...addresses };
  const child = spawn(process.execPath, [file("coordinator/src/main.ts")], { env, stdio: ["ignore", "ignore", "pipe"] });
  const late = setTimeout(() => child.kill("SIGKILL"), 60_000);
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += String(chunk);
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(late);
  return { code, said };
}

describe("trouble with Redis", { concurrency: 2 }, () => {
  test("a frozen Redis hangs nobody, and after it nothing is taken for dead", async (t) => {
    await using models = await emptyRepository();
    await models.add("layers", layersModel(100), { settings: "max_batch_items: 4\n" });
    await using cluster = await startProcesses({ models: models.folder });
    const { redis, url, workers } = cluster;
    await infer(url);
    const kept = await submit(url);
    redis.pause();
    const frozenMs = performance.now();
    const answers = await Promise.all(Array.from({ length: 10 }, (_, at) => (at % 2 === 0 ? submit(url) : infer(url))));
    for (const answer of answers) assertTold(answer);
    await assertAway(url);
    const read = await call(`${url}/v1/jobs/${kept.json().id}`);
    assertProblem(read);
    await sleep(Math.max(0, frozenForMs - (performance.now() - frozenMs)));
    redis.resume();
    const tookMs = await untilServing(cluster, 30_000);
    t.diagnostic(`serving ${tookMs.toFixed(0)} ms after the freeze`);
    assert.ok(tookMs <= recoveredMs, `recovered after ${tookMs.toFixed(0)} ms`);
    assert.equal((await jobView(url, kept.json().id, 20)).state, "succeeded");
    await sleep(4_500); // longer than the presence window and the sweeper's grace: whoever were to be taken for lost now would be
    const { items } = (await call(`${url}/v1/hosts`)).json() as { items: { state: string; incarnation: string }[] };
    assert.deepEqual(
      items.map(({ state, incarnation }) => ({ state, incarnation })),
      [{ state: "ready", incarnation: workers[0]!.incarnation }],
    );
    assert.doesNotMatch(cluster.log(), /host_lost|"lost"/);
    const metrics = await call(`${/"metrics":"([^"]+)"/.exec(cluster.coordinators[0]!.log())![1]}/metrics`);
    assert.doesNotMatch(metrics.bytes.toString(), /switchyard_jobs_returned_total\{[^}]*\} [1-9]/);
  });

  test("a killed Redis is told in time, and everything goes on by itself when it is back with its data", async (t) => {
    await using models = await emptyRepository();
    await models.add("layers", layersModel(100), { settings: "max_batch_items: 4\n" });
    await using cluster = await startProcesses({ models: models.folder });
    const { redis, url } = cluster;
    await infer(url);
    const [worker] = cluster.workers;
    worker!.signal("SIGSTOP");
    const acknowledged = await Promise.all(Array.from({ length: 20 }, () => submit(url)));
    const held = Array.from({ length: 5 }, () => infer(url));
    const waiting = acknowledged.slice(0, 5).map((answer) => call(`${url}/v1/jobs/${answer.json().id}?wait=30`));
    await until("the held calls to wait", async () => {
      const { items } = (await call(`${url}/v1/jobs?model=layers&state=queued&limit=200`)).json() as { items: unknown[] };
      return items.length === acknowledged.length + held.length;
    });
    await untilOnDisk(redis.url);
    const killedMs = performance.now();
    await redis.kill();
    worker!.signal("SIGCONT");
    await Promise.all([
      Promise.all([...held, ...waiting]).then((answers) => {
        const tookMs = performance.now() - killedMs;
        assert.ok(tookMs <= toldMs, `held calls were told after ${tookMs.toFixed(0)} ms`);
        for (const { status } of answers) assert.equal(status, 503);
      }),
      assertAway(url),
    ]);
    await redis.restart();
    t.diagnostic(`serving ${(await untilServing(cluster, 30_000)).toFixed(0)} ms after the restart`);
    for (const answer of acknowledged) {
      assert.equal(answer.status, 202);
      assert.equal((await jobView(url, answer.json().id, 20)).state, "succeeded");
    }
    assert.equal(cluster.coordinators[0]!.log().match(/"listening"/g)?.length, 1);
  });

  test("a coordinator that finds no Redis says so and ends with an exit code that is not 0", async () => {
    const redis = await startTestRedis();
    await redis.kill();
    const { code, said } = await startAlone(redis.url);
    assert.notEqual(code, 0);
    assert.match(said, /Redis/);
    assert.ok(said.includes(`127.0.0.1:${redis.port}`), `the message does not name the address: ${said}`);
    assert.ok(!said.includes(redis.password), "the message shows the password");
    await redis.stop();
  });

  test("a Redis that may evict keys is refused at start, naming the setting", async () => {
    const redis = await startTestRedis();
    const client = new Redis(redis.url);
    await client.config("SET", "maxmemory-policy", "allkeys-lru");
    client.disconnect();
    const { code, said } = await startAlone(redis.url);
    assert.notEqual(code, 0);
    assert.match(said, /maxmemory-policy is allkeys-lru, expected noeviction/);
    await redis.stop();
  });
});
