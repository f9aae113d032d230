/** The end of a coordinator on a real store: whoever asks meanwhile is served, and calls that outlast it hear where their jobs are. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { type Coordinator, startCoordinator } from "../../coordinator/src/compose.ts";
import { call, floats } from "../support/calls.ts";
import { startTestRedis } from "../support/redis.ts";
import { shortest } from "../support/shortest.ts";
import { until } from "../support/until.ts";

/** Starts coordinators on one store; all of it ends with the test. */
async function coordinators(t: TestContext): Promise<() => Promise<Coordinator>> {
  const redis = await startTestRedis();
  t.after(() => redis.stop());
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-drain-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return async () => {
    const started = await startCoordinator({
      redisUrl: redis.url,
      modelsFolder: fileURLToPath(new URL("../../models", import.meta.url)),
      blobs: { folder },
      inputFiles: "auto",
      dataFolder: folder,
      http: { host: "127.0.0.1", port: 0 },
      metricsAddress: { host: "127.0.0.1", port: 0 },
      maxBodyBytes: 1_000_000,
      maxModelBytes: 1_000_000,
      maxJsonBytes: 1_000_000,
      mostQueueJobs: 1_000,
      mostQueueBytes: 1e9,
      resultTtlMs: 60_000,
      mcpModelTools: 40,
      corsOrigins: [],
      expectedHosts: 0,
      version: "1.2.3",
      clock: systemClock,
      log: { info() {}, warn() {}, error() {} },
      metrics: prometheusMetrics({ version: "1.2.3", processMetrics: false }),
    });
    await until("the models", async () => (await call(`${started.url}/v2/models/digits`)).status === 200);
    return started;
  };
}

const body = { inputs: [floats("image", [1, 64], new Float32Array(64))] };

/** Asks a coordinator that leaves every 20 ms or so, until it serves no more. */
async function askWhileLeaving(leaving: Coordinator) {
  const submit = () => call(`${leaving.url}/v1/jobs`, { body: { model: "digits", ...body } });
  assert.equal((await submit()).status, 202);
  const startedMs = performance.now();
  const drained = leaving.drain(10_000);
  const ready = await call(`${leaving.url}/readyz`).catch(() => undefined); // gone where this process stood still: the gap tells
  if (ready) assert.deepEqual([ready.status, ready.headers.connection], [503, "close"]);
  let [lastMs, askedMs, longestGapMs] = [0, 0, 0];
  for (;;) {
    const nowMs = performance.now() - startedMs;
    longestGapMs = Math.max(longestGapMs, nowMs - askedMs);
    askedMs = nowMs;
    const answer = await submit().catch(() => undefined);
    if (answer?.status !== 202) break;
    assert.equal(answer.headers.connection, "close");
    lastMs = performance.now() - startedMs;
    await sleep(20);
  }
  await drained;
  return { lastMs, longestGapMs };
}

/** Asks all the time until it serves no more, with a call that it holds meanwhile. */
async function holdWhileLeaving(leaving: Coordinator) {
  const held = call(`${leaving.url}/v2/models/digits/infer`, { body }); // no host is there to run it
  await until("the job", async () => (await leaving.jobs.list({ limit: 10 }, localCaller)).jobs.some(({ state }) => state === "queued"));
  const startedMs = performance.now();
  const drained = leaving.drain(4_000);
  let [askedMs, longestGapMs] = [startedMs, 0];
  for (;;) {
    longestGapMs = Math.max(longestGapMs, performance.now() - askedMs);
    askedMs = performance.now();
    const answer = await call(`${leaving.url}/v2/models/digits`).catch(() => undefined);
    if (answer?.status !== 200) break;
    await sleep(20);
  }
  const quietMs = performance.now() - startedMs;
  await held;
  const tookMs = performance.now() - startedMs;
  await drained;
  return { quietMs, tookMs, longestGapMs };
}

// they wait for most of their time, each on a store of its own
describe("drain", { concurrency: 2 }, () => {
  test("a coordinator that leaves says so and serves on until nobody asks any more, for two seconds at most", async (t) => {
    const start = await coordinators(t);
    for (let turn = 1; ; turn++) {
      const { lastMs, longestGapMs } = await askWhileLeaving(await start());
      // where this machine let nobody ask for that long, it was right to end
      if (longestGapMs > 200 && turn < 5) continue;
      assert.ok(lastMs > 1_500 && lastMs < 3_000, `served for ${lastMs} ms, asked every ${longestGapMs} ms at least`);
      break;
    }
    const asideMs = await shortest(1_500, async () => {
      const other = await start();
      const fromMs = performance.now();
      await other.drain(10_000);
      return performance.now() - fromMs;
    });
    assert.ok(asideMs < 1_500, `nobody asks: it need not wait ${asideMs} ms`);
  });

  test("a drain that is over answers held calls with their jobs: cancelled without a key, left to others with one", async (t) => {
    const start = await coordinators(t);
    const first = await start();
    const other = await start();
    const infer = (headers: Record<string, string>) => call(`${first.url}/v2/models/digits/infer`, { body, headers });
    const held = [infer({}), infer({ "idempotency-key": "mine" })]; // no host is there to run them
    const jobs = () => other.jobs.list({ limit: 10 }, localCaller);
    await until("both jobs", async () => (await jobs()).jobs.length === 2);
    const drained = first.drain(100);
    const [unkeyed, keyed] = await Promise.all(held);
    await drained;
    const stateOf = async (id: string) => (await call(`${other.url}/v1/jobs/${id}`)).json().state;
    for (const [answer, pattern, state] of [
      [unkeyed!, /job (\S+) was cancelled/, "cancelled"],
      [keyed!, /job (\S+) goes on/, "queued"],
    ] as const) {
      assert.deepEqual([answer.status, answer.headers["x-switchyard-error"]], [503, "draining"], answer.bytes.toString());
      assert.equal(await stateOf(pattern.exec(answer.json().error)![1]!), state);
    }
    await other.drain(5_000);
  });

  test("a connection on which nothing was asked holds no coordinator that leaves", async (t) => {
    const start = await coordinators(t);
    const leaving = await start();
    const { hostname, port } = new URL(leaving.url);
    const silent = connect(Number(port), hostname);
    t.after(() => silent.destroy());
    const closed = once(silent, "close");
    await once(silent, "connect");
    const startedMs = performance.now();
    await leaving.drain(20_000);
    assert.ok(performance.now() - startedMs < 10_000, "it was waited for until all had to be over");
    await closed;
  });

  test("what a coordinator served while it left is part of its time to end", async (t) => {
    const start = await coordinators(t);
    for (let turn = 1; ; turn++) {
      const { quietMs, tookMs, longestGapMs } = await holdWhileLeaving(await start());
      // it ends sooner where this machine let nobody ask for that long, and is told late where it stood still
      if ((quietMs <= 1_500 && longestGapMs > 200 && turn < 5) || (tookMs >= 5_300 && turn < 3)) continue;
      assert.ok(quietMs > 1_500, `it served for ${quietMs} ms, asked every ${longestGapMs} ms at least`);
      assert.ok(tookMs < 5_300, `the held call was told after ${tookMs} ms`);
      break;
    }
  });
});
