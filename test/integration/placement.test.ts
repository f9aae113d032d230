/** Which host holds what, with real hosts: promises of model.yaml are kept without any request, and again after losses. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { HostView, JobView, ModelView } from "@switchyard/protocol";
import { call, floats, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, type Repository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [floats("x", [1], [1])];

/** More models than a host loads ahead of time. */
async function addCrowd(models: Repository): Promise<void> {
  const bytes = slowModel(1).toBytes();
  for (let at = 1; at <= 9; at++) await models.add(`crowd-${at}`, bytes);
}

async function infer(url: string, model: string): Promise<void> {
  const answer = await call(`${url}/v2/models/${model}/infer`, { body: { inputs } });
  assert.equal(answer.status, 200, answer.bytes.toString());
}

const modelOf = async (url: string, model: string): Promise<ModelView> =>
  (await call(`${url}/v1/models/${model}`)).json().items[0] as ModelView;

async function hostsOf(url: string): Promise<HostView[]> {
  return ((await call(`${url}/v1/hosts`)).json() as { items: HostView[] }).items.filter(({ state }) => state === "ready");
}

async function heldBy(cluster: Processes, model: string, count: number): Promise<string[]> {
  return until(
    `${model} to be held ${count} times`,
    async () => {
      const { warm_on: hosts = [] } = await modelOf(cluster.url, model);
      return hosts.length === count && [...hosts].sort();
    },
    { show: () => cluster.log() },
  );
}

describe("placement", { concurrency: 2 }, () => {
  test("min_replicas are loaded without a request, and again when hosts of theirs and the coordinator that made the plan are killed", async () => {
    await using models = await emptyRepository();
    await addCrowd(models);
    await models.add("twice", slowModel(1), { settings: "min_replicas: 2\n" });
    await models.add("once", slowModel(1), { settings: "pin: true\n" });
    await using cluster = await startProcesses({ models: models.folder, workers: 3, coordinators: 2 });
    const { url } = cluster.coordinators[1]!;
    const held = (model: string, by: string): Promise<unknown> =>
      until(`${model} to be held by ${by}`, async () => (await modelOf(url, model)).warm_on?.includes(by), {
        show: () => cluster.log(),
      });
    const before = await heldBy(cluster, "twice", 2);
    await cluster.workers.find(({ name }) => name === before[0])!.kill();
    const third = cluster.workers.map(({ name }) => name).find((name) => !before.includes(name))!;
    await held("twice", third);
    const others = before.slice(1).concat(third);
    await until("once to be held by a host that lives", async () =>
      (await modelOf(cluster.url, "once")).warm_on?.some((name) => others.includes(name)),
    );

    await cluster.coordinators[0]!.kill();
    for (const name of [before[1], third]) await cluster.workers.find((worker) => worker.name === name)!.kill();
    const other = await cluster.addWorker();
    for (const model of ["twice", "once"]) await held(model, other.name);
  });

  test("a pinned model survives the loads of others that need its room", async () => {
    await using models = await emptyRepository();
    await addCrowd(models);
    await models.add("pinned", slowModel(1), { settings: "pin: true\n" });
    await using cluster = await startProcesses({ models: models.folder, env: { SWITCHYARD_CACHE_MODELS: "2" }, inOneProcess: true });
    const { url } = cluster;
    await heldBy(cluster, "pinned", 1);
    await until("the host to have been told to keep it", async () => {
      for (let at = 1; at <= 4; at++) await infer(url, `crowd-${at}`);
      return (await hostsOf(url))[0]!.warm.includes("pinned@1");
    });
    const loads = async (): Promise<string | undefined> => {
      const { metrics } = (await hostsOf(url))[0]!;
      return /^switchyard_model_load_seconds_count\{model="pinned"\} (\d+)$/m.exec(
        (await call(`http://${metrics}/metrics`)).bytes.toString(),
      )?.[1];
    };
    const before = await loads();
    for (let at = 1; at <= 9; at++) await infer(url, `crowd-${at}`);
    assert.deepEqual([before !== undefined, await loads()], [true, before], "it was never loaded again");
    await until("the last to be told", async () => (await hostsOf(url))[0]!.warm.includes("crowd-9@1"), {
      show: () => cluster.log(),
    });
    assert.deepEqual((await hostsOf(url))[0]!.warm, ["crowd-9@1", "pinned@1"]);
  });

  test("a model with max_replicas is on no more hosts than that, however many jobs wait for it", async () => {
    await using models = await emptyRepository();
    // together some two seconds of work: others may take a queue after a quarter of one
    await models.add("one-only", slowModel(1), { settings: "max_replicas: 1\nmax_batch_items: 1\n" });
    await using cluster = await startProcesses({ models: models.folder, workers: 3, inOneProcess: true, workerEnv: slowRuns(20) });
    const { url } = cluster;
    const submit = async (): Promise<string> => {
      const answer = await call(`${url}/v1/jobs`, { body: { model: "one-only", inputs } });
      return (answer.json() as JobView).id;
    };
    await infer(url, "one-only");
    const ids = await Promise.all(Array.from({ length: 100 }, submit));
    const ended = await Promise.all(ids.map((id) => jobView(url, id, 60)));
    assert.deepEqual([...new Set(ended.map(({ state }) => state))], ["succeeded"]);
    assert.equal(new Set(ended.map(({ host }) => host)).size, 1);
    assert.equal((await modelOf(url, "one-only")).warm_on?.length, 1);
  });

  test("a host that cannot hold what it promised room for is passed over, and everybody can read why", async () => {
    await using models = await emptyRepository();
    await using none = await emptyRepository();
    await addCrowd(models);
    await models.add("twice", slowModel(1), { settings: "min_replicas: 2\n" });
    await using cluster = await startProcesses({ models: models.folder, workers: 1 });
    const { url } = cluster;
    // it claims memory like the others, and every load on it fails
    const broken = await cluster.addWorker({ SWITCHYARD_MODELS: none.folder, SWITCHYARD_CACHE_MB: "1000000" });
    await until("the failure to be told by the host", async () => {
      const host = (await hostsOf(url)).find(({ id }) => id === broken.name);
      return host?.failures?.["twice@1"]?.includes("cannot be read");
    });
    const reason = await until("and of the model", async () => (await modelOf(url, "twice")).reason);
    assert.match(reason, /^a host could not load it: .*cannot be read/);
    assert.ok(!reason.includes(broken.name), "which host it was is for operators");
    await infer(url, "twice");
    const sound = await cluster.addWorker();
    assert.ok((await heldBy(cluster, "twice", 2)).includes(sound.name));
    const tries = broken.log().split('"model_failed"').length - 1;
    assert.ok(tries < 20, `${tries} tries`);
  });
});
