/** Which hosts get which jobs: what models and jobs require is kept whatever happens, and what they prefer while it can be had. */

import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { HostView, JobView, ModelView } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { Pulse } from "../support/pulse.ts";
import { stubProgram } from "../support/stub-program.ts";
import {
  directRun,
  distance,
  emptyRepository,
  layersModel,
  type Repository,
  rowsOf,
  slowModel,
  slowRuns,
} from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [floats("x", [1], [1])];
/** A worker whose ONNX Runtime says that it has CUDA. */
const pretendCuda = { NODE_OPTIONS: `--import ${pathToFileURL(`${import.meta.dirname}/../support/pretend-cuda.ts`)}` };

async function submit(url: string, model: string, more: Record<string, unknown> = {}): Promise<string> {
  const answer = await call(`${url}/v1/jobs`, { body: { model, inputs, timeout_ms: 60_000, ...more } });
  assert.equal(answer.status, 202, answer.bytes.toString());
  return (answer.json() as JobView).id;
}

/** Who ran each job. */
async function hostsOf(url: string, ids: readonly string[]): Promise<(string | undefined)[]> {
  const views = await Promise.all(ids.map((id) => jobView(url, id, 30)));
  for (const { error, state } of views) assert.equal(state, "succeeded", JSON.stringify(error));
  return views.map(({ host }) => host);
}

const modelOf = async (url: string, model: string): Promise<ModelView> =>
  (await call(`${url}/v1/models/${model}`)).json().items[0] as ModelView;

const hostOf = async (url: string, id: string): Promise<HostView> => (await call(`${url}/v1/hosts/${id}`)).json() as HostView;

async function clusterOf(models: Repository, ...hosts: Record<string, string>[]): Promise<Processes> {
  const cluster = await startProcesses({ models: models.folder, workers: 0, redisPersists: false });
  try {
    await Promise.all(hosts.map((env) => cluster.addWorker(env)));
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

const repeat = <T>(count: number, make: (at: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, at) => make(at)));

// one of them waits for most of a minute, beside the others
describe("routing", { concurrency: 3 }, () => {
  test("a queue of jobs with a requirement of their own is forgotten when its results are", async (t) => {
    await using models = await emptyRepository();
    for (const name of ["plain", "leaving"]) await models.add(name, slowModel(1));
    await using cluster = await startProcesses({
      models: models.folder,
      coordinators: 2,
      env: { SWITCHYARD_RESULT_TTL: "3s" },
      workerEnv: { SWITCHYARD_LABELS: "site=north" },
      inOneProcess: true,
    });
    const redis = new Redis(cluster.redis.url);
    t.after(() => redis.disconnect());
    const north = { require: { labels: { site: "north" } } };
    const ids = await Promise.all(["plain", "leaving"].map((model) => submit(cluster.url, model, north)));
    assert.equal(await redis.hlen(keys.choosyQueues), 2);
    await hostsOf(cluster.url, ids);
    await rm(path.join(models.folder, "leaving"), { recursive: true });
    await until("both to be forgotten, with the results and with the model", async () => (await redis.hlen(keys.choosyQueues)) === 0, {
      withinMs: 60_000,
      everyMs: 250,
    });
    await until("the host to forget them", async () => {
      const [incarnation] = await redis.zrange(keys.hosts, "0", "-1");
      const { loaded, warm } = JSON.parse((await redis.hget(keys.host(incarnation!), "changing"))!);
      return ids.every((id) => ![...warm, ...Object.keys(loaded)].includes(tagOf(id)));
    });
    const again = await submit(cluster.urls[1]!, "plain", north);
    assert.deepEqual(await hostsOf(cluster.url, [again]), [cluster.workers[0]!.name], "and opened again for the next job");
  });

  test("jobs go to the preferred host while it lives, to the others when it is killed, and back to it when it returns", async (t) => {
    await using models = await emptyRepository();
    await models.add("plain", slowModel(1));
    await models.add("busy", slowModel(1), { settings: "prefer: [{ label: optimised-for=vision, weight: 1 }]\nmax_batch_items: 1\n" });
    await models.add("vision", slowModel(1), { settings: "prefer: [{ label: optimised-for=vision, weight: 10 }]\n" });
    const device = slowRuns(20);
    await using cluster = await clusterOf(models, device, { ...device, SWITCHYARD_LABELS: "optimised-for=vision" }, device);
    const { url } = cluster;
    const [, preferred] = cluster.workers;
    for (let round = 0; round < 5; round++) {
      const ran = await hostsOf(url, await repeat(10, () => submit(url, "vision")));
      assert.deepEqual([...new Set(ran)], [preferred!.name]);
    }
    await until("what prefers nobody to be shared", async () => {
      const others = await hostsOf(url, await repeat(40, () => submit(url, "plain")));
      return new Set(others).size > 1;
    });

    const caught = await repeat(20, () => submit(url, "vision"));
    await preferred!.kill();
    using pulse = new Pulse();
    const killedMs = Date.now();
    const rest = await hostsOf(url, [...caught, await submit(url, "vision")]);
    const movedMs = Date.now() - killedMs - pulse.lateMs(killedMs, Date.now());
    assert.ok(rest.some((host) => host !== preferred!.name));
    t.diagnostic(`moved and done ${movedMs.toFixed(0)} ms after the kill`);
    assert.ok(movedMs < 7_500, `${movedMs} ms`);

    // a queue that never runs dry goes back as well
    let over = false;
    const seen: (string | undefined)[] = [];
    const client = async (): Promise<void> => {
      while (!over) seen.push(...(await hostsOf(url, [await submit(url, "busy")])));
    };
    const clients = [client(), client(), client(), client()];
    try {
      await until("the others to work", async () => seen.length > 20);
      await preferred!.respawn();
      await until("the preferred host to have it all", async () => seen.slice(-20).every((host) => host === preferred!.name), {
        show: () => `${seen.slice(-20)}`,
      });
    } finally {
      over = true;
      await Promise.all(clients);
    }
    await until(
      "the preferred host to run the others again",
      async () => (await hostsOf(url, await repeat(4, () => submit(url, "vision")))).every((host) => host === preferred!.name),
      { show: () => cluster.log() },
    );
  });

  test("what requires CUDA runs with CUDA on the host that has it, and never on another", async () => {
    await using models = await emptyRepository();
    await using smi = await stubProgram("nvidia-smi", 'echo "NVIDIA H100 80GB HBM3, 81559"');
    await models.add("gpu-only", slowModel(1), { settings: "require: { providers: [cuda], gpu_memory_mb: 40000 }\n" });
    await models.add("plain", slowModel(1));
    await using cluster = await clusterOf(models, {}, { ...pretendCuda, PATH: smi.path });
    const { url } = cluster;
    const [cpu, gpu] = cluster.workers;
    assert.equal((await hostOf(url, cpu!.name)).device, "cpu/1");
    const { gpus, providers } = await hostOf(url, gpu!.name);
    assert.deepEqual({ gpus, providers }, { gpus: [{ name: "NVIDIA H100 80GB HBM3", memory_mb: 81_559 }], providers: ["cuda", "cpu"] });
    const ran = await hostsOf(url, await repeat(40, () => submit(url, "gpu-only")));
    assert.deepEqual([...new Set(ran)], [gpu!.name]);
    assert.match(gpu!.log(), /gpu_by_request_only.*SWITCHYARD_PROVIDERS=cuda gives them the GPU/);
    assert.doesNotMatch(cpu!.log(), /gpu_by_request_only/);
    const sessions = gpu!.log().split("pretended session on [cuda]\n").length - 1;
    assert.ok(sessions >= 2, "beside the host's own look, the session that ran it was asked for CUDA and nothing else");
    await gpu!.kill();
    await until("the loss to be noticed", async () => (await modelOf(url, "gpu-only")).reason !== undefined);
    const refused = await call(`${url}/v2/models/gpu-only/infer`, { body: { inputs } });
    assert.equal(refused.status, 503, refused.bytes.toString());
    assert.doesNotMatch(cpu!.log(), /gpu-only|model_failed/);
  });

  for (const [changeMs, settings, size, why] of [
    [
      30,
      "max_batch_items: 8",
      8,
      /says max_batch_items: 8; batches are filled up to 8, because a run of another size than the last takes \d+ ms longer/,
    ],
    // more than a warm-up of all sizes has time for
    [800, "max_batch_items: 8", 8, /filled up to 8, because a run of another size than the last takes \d{3,} ms longer/],
    [30, "default_timeout_ms: 30000", 32, /stacked answer as they do apart; 32 is the default .* filled up to 32, because a run/],
  ] as const)
    test(`where a run of another size than the last takes ${changeMs} ms longer, all runs of a model with ${settings} have one size, and each job gets its own answer`, async () => {
      await using models = await emptyRepository();
      const graph = layersModel(1);
      await models.add("on-gpu", graph, { settings: `${settings}\nrequire: { providers: [cuda] }\n` });
      await using cluster = await clusterOf(models, { ...pretendCuda, SWITCHYARD_TEST_CUDA_CHANGE_MS: String(changeMs) });
      const { url } = cluster;
      const [host] = cluster.workers;
      const inputsOf = (row: Float32Array) => ({ inputs: [floats("x", [1, 32], row)] });
      const rows = rowsOf(19);
      const expected = await directRun(graph, rows);
      await hostsOf(url, [await submit(url, "on-gpu", inputsOf(rows[0]!))]);
      assert.match((await modelOf(url, "on-gpu")).batching?.reason ?? "", why);
      const before = host!.log().length;
      const ids = await Promise.all(rows.map((row) => submit(url, "on-gpu", inputsOf(row))));
      await hostsOf(url, ids);
      for (const [at, id] of ids.entries()) {
        const answer = (await call(`${url}/v1/jobs/${id}/result`)).json().outputs[0];
        assert.deepEqual(answer.shape, [1, 32]);
        assert.ok(distance(answer.data, expected[at]!) < 1e-4, `row ${at}`);
      }
      const sizes = host!
        .log()
        .slice(before)
        .match(/(?<=pretended run of )\d+/g);
      assert.deepEqual([...new Set(sizes)], [String(size)]);
    });

  test("while a device beside the processor runs one batch, the next is claimed and made ready, and each job gets its own answer", async () => {
    await using models = await emptyRepository();
    const graph = layersModel(1);
    await models.add("on-gpu", graph, { settings: "max_batch_items: 8\nrequire: { providers: [cuda] }\n" });
    await using cluster = await clusterOf(models, { ...pretendCuda, SWITCHYARD_TEST_CUDA_RUN_MS: "50" });
    const { url } = cluster;
    const rows = rowsOf(120);
    const expected = await directRun(graph, rows);
    const ids = await repeat(rows.length, (at) => submit(url, "on-gpu", { inputs: [floats("x", [1, 32], rows[at]!)] }));
    await hostsOf(url, ids);
    for (const [at, id] of ids.entries()) {
      const answer = (await call(`${url}/v1/jobs/${id}/result`)).json().outputs[0];
      assert.ok(distance(answer.data, expected[at]!) < 1e-4, `row ${at}`);
    }
    const views = await Promise.all(ids.map((id) => jobView(url, id)));
    const times = views.map(({ finished_at, started_at }) => [Date.parse(started_at!), Date.parse(finished_at!)] as const);
    const batches = new Map([...times].sort(([one], [other]) => one - other));
    const [starts, ends] = [[...batches.keys()], [...batches.values()]];
    const ahead = starts.filter((startMs, at) => at > 0 && startMs < ends[at - 1]!).length;
    assert.ok(ahead >= 3, `${ahead} of ${starts.length} batches were claimed before the end of the one before`);
    const both = starts.filter((startMs, at) => at > 1 && startMs < ends[at - 2]!).length;
    assert.equal(both, 0, "one ahead, not two");
  });

  test("a provider that a host has in name only runs nothing and is told: the load fails, and one that is missing altogether keeps a host unready", async () => {
    await using models = await emptyRepository();
    await models.add("gpu-only", slowModel(1), { settings: "require: { providers: [cuda] }\n" });
    // lists the provider, and cannot load the model with it
    await using cluster = await clusterOf(models, { ...pretendCuda, SWITCHYARD_TEST_CUDA_FAILS: "1" });
    const { url } = cluster;
    const answer = await call(`${url}/v2/models/gpu-only/infer`, { body: { inputs, parameters: { timeout: 10_000_000 } } });
    assert.ok(answer.status === 503 || answer.status === 504, `${answer.status} ${answer.bytes}`);
    await until("the failure to be told", async () => {
      const { failures } = await hostOf(url, cluster.workers[0]!.name);
      return failures?.["gpu-only@1"]?.includes("the device is gone");
    });
    assert.match((await modelOf(url, "gpu-only")).reason ?? "", /the device is gone/);

    // this machine lacks it
    const lacking = await cluster.addWorker({ SWITCHYARD_PROVIDERS: "cuda" });
    const { metrics } = await hostOf(url, lacking.name);
    assert.equal((await call(`http://${metrics}/livez`)).status, 200);
    const ready = await call(`http://${metrics}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(ready.bytes.toString(), /provider cuda is configured and cannot be used/);
  });

  test("without a capable host a job is refused at once with what is missing, unless it says that it waits; what nobody can read is refused by its field", async () => {
    await using models = await emptyRepository();
    await models.add("north", slowModel(1), { settings: "require: { labels: { site: north, floor: '3' } }\n" });
    await models.add("plain", slowModel(1));
    await using cluster = await clusterOf(models, { SWITCHYARD_LABELS: "site=north" });
    const { url } = cluster;
    const refused = await call(`${url}/v1/jobs`, { body: { model: "north", inputs } });
    assert.equal(refused.status, 503);
    const { code, missing, retryable } = refused.json();
    assert.deepEqual({ code, missing, retryable }, { code: "no_capable_host", missing: ["label floor=3"], retryable: true });
    assert.ok(Number(refused.headers["retry-after"]) >= 1);
    const { reason, state } = await modelOf(url, "north");
    assert.equal(state, "available");
    assert.match(reason ?? "", /no registered host has what it requires: missing label floor=3/);
    assert.equal((await call(`${url}/v2/models/north/ready`)).status, 400);

    const waiting = await submit(url, "north", { wait_for_host: true });
    assert.equal((await jobView(url, waiting)).state, "queued");
    const able = await cluster.addWorker({ SWITCHYARD_LABELS: "site=north,floor=3" });
    assert.deepEqual(await hostsOf(url, [waiting, await submit(url, "north")]), [able.name, able.name]);

    const wrong: [Record<string, unknown>, string, RegExp][] = [
      [{ require: "cuda" }, "/require", /an object/],
      [{ require: { provider: ["cuda"] } }, "/require/provider", /providers, gpu_memory_mb, frameworks, labels/],
      [{ require: { providers: [] } }, "/require/providers", /at least one/],
      [{ require: { gpu_memory_mb: -1 } }, "/require/gpu_memory_mb", /whole number above 0/],
      [{ require: { labels: { a: 1 } } }, "/require/labels/a", /strings/],
      [{ require: { labels: Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`l${at}`, "x"])) } }, "/require", /at most 16/],
      [{ wait_for_host: "yes" }, "/wait_for_host", /true or false/],
    ];
    for (const [more, pointer, expected] of wrong) {
      const answer = await call(`${url}/v1/jobs`, { body: { model: "plain", inputs, ...more } });
      assert.equal(answer.status, 400, answer.bytes.toString());
      const [fault] = answer.json().errors;
      assert.equal(fault.pointer, pointer);
      assert.match(fault.expected, expected);
    }
  });

  test("a job's own requirement is kept, beside jobs of the same model that have none", async (t) => {
    await using models = await emptyRepository();
    await models.add("plain", slowModel(1));
    await using cluster = await clusterOf(models, { SWITCHYARD_LABELS: "site=north" }, { SWITCHYARD_LABELS: "site=south" });
    const { url } = cluster;
    const [north, south] = cluster.workers;
    const requiring = (site: string) => ({ require: { labels: { site } }, tags: { site } });
    const [inNorth, inSouth, anywhere] = await Promise.all([
      repeat(20, () => submit(url, "plain", requiring("north"))),
      repeat(20, () => submit(url, "plain", requiring("south"))),
      repeat(20, () => submit(url, "plain")),
    ]);
    assert.deepEqual([...new Set(await hostsOf(url, inNorth))], [north!.name]);
    assert.deepEqual([...new Set(await hostsOf(url, inSouth))], [south!.name]);
    await hostsOf(url, anywhere);
    const { items } = (await call(`${url}/v1/jobs?model=plain&tag=site:south&limit=200`)).json() as { items: JobView[] };
    assert.equal(items.length, 20, "they are listed with their model's jobs");
    const { metrics, batches } = await hostOf(url, north!.name);
    const page = await (await fetch(`http://${metrics}/metrics`)).text();
    assert.equal(/^switchyard_host_models (\d+)$/m.exec(page)?.[1], "1", `the model that its queues share: ${JSON.stringify(batches)}`);

    const refused = await call(`${url}/v1/jobs`, { body: { model: "plain", inputs, require: { labels: { site: "east" } } } });
    assert.deepEqual([refused.status, refused.json().missing], [503, ["label site=east"]]);
    const redis = new Redis(cluster.redis.url);
    t.after(() => redis.disconnect());
    assert.equal(await redis.hlen(keys.choosyQueues), 2, "a job that was refused opened no queue");
    await south!.kill();
    const caught = await submit(url, "plain", { ...requiring("south"), wait_for_host: true });
    await south!.respawn();
    assert.deepEqual(await hostsOf(url, [caught]), [south!.name]);
  });
});
