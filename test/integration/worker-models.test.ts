/** A worker and models that it cannot have: gone, broken for a while, missing only here, or more than it can turn to at once. */

import assert from "node:assert/strict";
import { cp, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { HostView, JobView } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { generateBenchModels } from "../../scripts/generate-bench-models.ts";
import { binaryInference, call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [floats("x", [1], [1])];
/** Of runs that no device makes slow. */
const quick = [floats("x", [1], [0.5])];

async function submit(url: string, model: string, more: Record<string, unknown> = {}): Promise<string> {
  const answer = await call(`${url}/v1/jobs`, { body: { model, inputs, timeout_ms: 60_000, ...more } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return (answer.json() as JobView).id;
}

/** What a host said last. */
async function told(redis: Redis, incarnation: string): Promise<{ warm: string[] }> {
  return JSON.parse((await redis.hget(keys.host(incarnation), "changing")) ?? "{}") as { warm: string[] };
}

/** What it says with a beat that comes after this call. */
async function beatAfter(redis: Redis, incarnation: string): Promise<{ warm: string[] }> {
  const [seconds, micros] = await redis.time();
  const nowMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
  await until("a beat", async () => Number(await redis.hget(keys.host(incarnation), "beat")) > nowMs);
  return told(redis, incarnation);
}

describe("a worker whose repository has more models than it loads ahead of time", () => {
  const onces = ["once-1", "once-2", "once-3"];
  let models: Repository;
  let cluster: Processes;
  before(async () => {
    models = await emptyRepository();
    const bytes = slowModel(1).toBytes();
    for (let at = 1; at <= 9; at++) await models.add(`cold-${at}`, bytes);
    for (const name of [...onces, "small"]) await models.add(name, slowModel(1));
    generateBenchModels({ folder: models.folder, seed: 1, which: ["resnet50"] });
    await writeFile(path.join(models.folder, "resnet50", "model.yaml"), "max_replicas: 1\nmax_batch_items: 4\n");
    cluster = await startProcesses({ models: models.folder, workerEnv: slowRuns(50), redisPersists: false });
  });
  after(async () => {
    await cluster?.stop();
    await models?.remove();
  });

  test("one request whose ticket had to be replaced is not taken for two", async (t) => {
    const [worker] = cluster.workers;
    const redis = new Redis(cluster.redis.url);
    t.after(() => redis.disconnect());
    /** How often its ticket was issued, and whether it counts as warm after that. */
    const askOnce = async (model: string): Promise<{ issued: number; isWarm: boolean }> => {
      worker!.signal("SIGSTOP");
      const id = await submit(cluster.url, model, { inputs: quick });
      const tag = tagOf(id);
      const issued = async () => Number(await redis.hget(`${keys.base(tag)}clock`, "tickets"));
      await until("the ticket to be replaced", async () => (await issued()) >= 2);
      worker!.signal("SIGCONT");
      assert.equal((await jobView(cluster.url, id, 30)).state, "succeeded");
      await until("its tickets to be over", async () => (await redis.hlen(`${keys.base(tag)}tickets`)) === 0);
      const { warm } = await beatAfter(redis, worker!.incarnation);
      return { issued: await issued(), isWarm: warm.includes(tag) };
    };
    // on a busy machine it may be replaced again before the worker goes on, and with three tickets it looks like two requests
    for (const model of onces) {
      const { issued, isWarm } = await askOnce(model);
      t.diagnostic(`${issued} tickets`);
      if (issued > 2) continue;
      assert.equal(isWarm, false, "no subscription for a single request");
      return;
    }
    assert.fail("each time the ticket was replaced twice");
  });

  test("a model that nobody has asked for yet is answered while eight others, just as cold, have long queues", async (t) => {
    const { url } = cluster;
    const backlog: string[] = [];
    for (let round = 0; round < 60; round++) {
      const ids = await Promise.all(Array.from({ length: 8 }, (_, at) => submit(url, `cold-${at + 1}`)));
      backlog.push(...ids);
    }
    const answer = await call(`${url}/v2/models/cold-9/infer`, { body: { inputs, parameters: { timeout: 20_000_000 } } });
    assert.equal(answer.status, 200, answer.bytes.toString());
    const last = await Promise.all(backlog.slice(-8).map((id) => jobView(url, id)));
    t.diagnostic(`answered in ${answer.tookMs.toFixed(0)} ms`);
    assert.ok(
      last.every(({ state }) => state === "queued"),
      `too late to say anything: ${last.map(({ state }) => state)}`,
    );
    assert.equal((await call(`${url}/v1/jobs:cancel`, { method: "POST" })).status, 200);
  });

  test("a large model that is asked for is loaded beside one that runs, whose jobs are answered meanwhile", async (t) => {
    const { url } = cluster;
    const tookMs: number[] = [];
    let over = false;
    const client = async (): Promise<void> => {
      while (!over) {
        const answer = await call(`${url}/v2/models/small/infer`, { body: { inputs: quick } });
        assert.equal(answer.status, 200, answer.bytes.toString());
        tookMs.push(answer.tookMs);
      }
    };
    const flows = client();
    await until("the small model to be served", async () => tookMs.length > 20);
    const [image] = (await call(`${url}/v2/models/resnet50`)).json().inputs as { name: string }[];
    const picture = binaryInference(image!.name, [1, 3, 224, 224], new Float32Array(3 * 224 * 224));
    const ask = async (what: string, asked: Parameters<typeof call>[1]): Promise<void> => {
      const answer = await call(`${url}/v2/${what}`, asked);
      assert.equal(answer.status, 200, answer.bytes.toString());
    };
    // a machine whose cores are all wanted may hold anything up for an eighth of a load, but not of each: a host that loads on its runner's thread does
    const mostLoads = 3;
    const loads: { loadMs: number; worstMs: number }[] = [];
    const isBeside = ({ loadMs, worstMs }: { loadMs: number; worstMs: number }): boolean => worstMs < loadMs / 8;
    while (loads.length < mostLoads && !loads.some(isBeside)) {
      if (loads.length > 0) {
        await ask("repository/models/resnet50/unload", { body: {} });
        const isHeld = async () => (await call(`${url}/v1/models/resnet50`)).json().items[0]?.warm_on?.length > 0;
        await until("it to be gone from memory", async () => !(await isHeld()));
      }
      const before = tookMs.splice(0);
      const startMs = performance.now();
      if (loads.length > 0) await ask("repository/models/resnet50/load", { body: {} });
      await ask("models/resnet50/infer", picture);
      const loadMs = performance.now() - startMs;
      const during = tookMs.splice(0);
      const worstMs = Math.max(...during);
      loads.push({ loadMs, worstMs });
      t.diagnostic(`loaded and answered in ${loadMs.toFixed(0)} ms; the other: ${during.length} answers, ${worstMs.toFixed(0)} ms at most`);
      t.diagnostic(`before that ${Math.max(...before).toFixed(0)} ms at most`);
    }
    over = true;
    await flows;
    assert.ok(loads.some(isBeside), loads.map(({ loadMs, worstMs }) => `${worstMs.toFixed(0)} of ${loadMs.toFixed(0)} ms`).join(", "));
    assert.equal(await cluster.workers[0]!.stop(), 0, "and the worker ends in order");
  });
});

test("a model that had to make room is not taken for warm until the next beat: the host says so at once", async (t) => {
  await using models = await emptyRepository();
  for (const name of ["one", "two"]) await models.add(name, slowModel(1));
  await using cluster = await startProcesses({
    models: models.folder,
    env: { SWITCHYARD_CACHE_MODELS: "1" },
    inOneProcess: true,
    redisPersists: false,
  });
  const redis = new Redis(cluster.redis.url);
  t.after(() => redis.disconnect());
  const { incarnation } = cluster.workers[0]!;
  const run = async (model: string): Promise<{ tag: string; endedMs: number }> => {
    const id = await submit(cluster.url, model);
    const view = await jobView(cluster.url, id, 30);
    assert.equal(view.state, "succeeded");
    return { tag: tagOf(id), endedMs: Date.parse(view.finished_at!) };
  };
  // both by the store's clock; the next beat would come within a second, so that one round in three would seem to be at once by chance
  const afterMs: number[] = [];
  const atOnce = (): number => afterMs.filter((ms) => ms < 300).length;
  for (let round = 0; atOnce() < 4 && afterMs.length - atOnce() < 2; round++) {
    const [first, second] = round % 2 === 0 ? ["one", "two"] : ["two", "one"];
    const { tag } = await run(first!);
    await sleep(50);
    await run(first!);
    await until("the model to be warm", async () => (await told(redis, incarnation)).warm.includes(tag));
    const { endedMs } = await run(second!);
    const saidMs = await until(
      "the model to be cold",
      async () => {
        const [beat, changing] = await redis.hmget(keys.host(incarnation), "beat", "changing");
        return !(JSON.parse(changing!) as { warm: string[] }).warm.includes(tag) && Number(beat);
      },
      { everyMs: 5 },
    );
    afterMs.push(saidMs - endedMs);
  }
  t.diagnostic(`told after ${afterMs.join(", ")} ms`);
  assert.equal(atOnce(), 4, `told after ${afterMs.join(", ")} ms`);
});

describe("models that a worker cannot have", { concurrency: 3 }, () => {
  test("jobs of a model that left the repository wait quietly and expire, and disturb no other model", async (t) => {
    await using models = await emptyRepository();
    await models.add("gone", slowModel(2));
    await models.add("here", slowModel(1));
    await using cluster = await startProcesses({ models: models.folder, workers: 0 });
    const { url } = cluster;
    const ids = [await submit(url, "gone", { timeout_ms: 12_000 }), await submit(url, "gone", { timeout_ms: 12_000 })];
    await rm(path.join(models.folder, "gone"), { recursive: true });
    await call(`${url}/v2/repository/models/nobody/load`, { body: {} }); // looks at the folder now
    await until("the model to be unlisted", async () => (await call(`${url}/v1/models/gone`)).status === 404);
    await cluster.addWorker();
    const redis = new Redis(cluster.redis.url);
    t.after(() => redis.disconnect());
    const tickets = async (): Promise<number> => Number(await redis.hget(`${keys.base(tagOf(ids[0]!))}clock`, "tickets"));
    const before = await tickets();
    const sinceMs = performance.now();
    await sleep(1_500);
    const issued = (await tickets()) - before;
    const tookMs = performance.now() - sinceMs;
    assert.ok(issued <= (5 * tookMs) / 1_500, `${issued} tickets in ${tookMs.toFixed(0)} ms`);
    assert.equal((await call(`${url}/v2/models/here/infer`, { body: { inputs } })).status, 200);
    for (const id of ids) assert.equal((await jobView(url, id, 20)).state, "expired");
  });

  test("a model that could not be loaded is tried again soon, and served without a restart of the worker", async (t) => {
    await using models = await emptyRepository();
    await using seen = await emptyRepository();
    await models.add("late", slowModel(1));
    await using cluster = await startProcesses({ models: models.folder, workers: 0 });
    const { url } = cluster;
    await cluster.addWorker({ SWITCHYARD_MODELS: seen.folder });
    const ask = () => call(`${url}/v2/models/late/infer`, { body: { inputs, parameters: { timeout: 20_000_000 } } });
    const refused = await ask();
    assert.equal(refused.status, 503, refused.bytes.toString());
    await cp(models.folder, seen.folder, { recursive: true });
    const backMs = performance.now();
    await until("the model to be served", async () => (await ask()).status === 200, {
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
    const round = (): Promise<string[]> => Promise.all(names.map((name) => submit(url, name, { max_attempts: 1 })));
    // the other takes none before this one has
    cluster.workers[0]!.signal("SIGSTOP");
    const ids = await round();
    await until("it to be asked", async () => blind.log().includes("model_failed"), { show: () => cluster.log() });
    cluster.workers[0]!.signal("SIGCONT");
    for (let more = 1; more < 5; more++) ids.push(...(await round()));
    const ended = await Promise.all(ids.map((id) => jobView(url, id, 30)));
    for (const { attempt, error, host, state } of ended) {
      assert.deepEqual([state, attempt, host], ["succeeded", 1, cluster.workers[0]!.name], JSON.stringify(error));
    }
  });
});

test("a worker in a container lends models half of what the container may use, not of what the machine has", async () => {
  const limit = encodeURIComponent(`process.constrainedMemory = () => ${256 * 2 ** 20};`);
  await using cluster = await startProcesses({ workerEnv: { NODE_OPTIONS: `--import=data:text/javascript,${limit}` } });
  const [host] = (await call(`${cluster.url}/v1/hosts`)).json().items as HostView[];
  assert.deepEqual([host?.memory_mb, host?.model_memory_mb?.lent], [256, 128]);
});

test("a host that is full of what it must keep leaves cold models to another, and none of their jobs fails", async () => {
  await using models = await emptyRepository();
  await models.add("pinned", slowModel(1), { settings: "pin: true\n" });
  const names = Array.from({ length: 10 }, (_, at) => `m-${at}`);
  for (const name of names) await models.add(name, slowModel(1));
  await using cluster = await startProcesses({
    models: models.folder,
    workers: 2,
    env: { SWITCHYARD_CACHE_MODELS: "1" },
    inOneProcess: true,
  });
  const { url } = cluster;
  await until(
    "the full host to have been asked",
    async () => {
      for (const name of names) {
        const ended = await jobView(url, await submit(url, name, { max_attempts: 1 }), 30);
        assert.equal(ended.state, "succeeded", JSON.stringify(ended.error));
      }
      return cluster.workers.some((worker) => worker.log().includes("no room for m-"));
    },
    { show: () => cluster.log() },
  );
});
