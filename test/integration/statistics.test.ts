/** The statistics of a running cluster: of all hosts and coordinators together, the same at each coordinator, and there after each of them ended. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Answer, call, floats } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { emptyRepository, layersModel, type Repository, rowsOf, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

interface Duration {
  count: number;
  ns: number;
}

interface Statistics {
  name: string;
  version: string;
  last_inference: number;
  inference_count: number;
  execution_count: number;
  inference_stats: Record<
    "success" | "fail" | "queue" | "compute_input" | "compute_infer" | "compute_output" | "cache_hit" | "cache_miss",
    Duration
  >;
  batch_stats: ({ batch_size: number } & Record<"compute_input" | "compute_infer" | "compute_output", Duration>)[];
}

let models: Repository;
let cluster: Processes;
before(async () => {
  models = await emptyRepository();
  await models.add("layers", layersModel(20), { settings: "max_batch_items: 8\n" });
  await models.add("cached", layersModel(1), { settings: "max_batch_items: 8\ncache: {ttl_s: 600}\n" });
  await models.add("slow", slowModel(1));
  cluster = await startProcesses({ coordinators: 2, workers: 2, models: models.folder, workerEnv: slowRuns(1_500) });
});
after(async () => {
  await cluster?.stop();
  await models?.remove();
});

const row = (at: number, items = 1) => ({
  inputs: [
    floats(
      "x",
      [items, 32],
      rowsOf(at + items)
        .slice(at)
        .flatMap((values) => [...values]),
    ),
  ],
});
const infer = (model: string, body: object, at = 0): Promise<Answer> => call(`${cluster.urls[at]}/v2/models/${model}/infer`, { body });

async function statisticsOf(model: string, at = 0): Promise<Statistics> {
  const answer = await call(`${cluster.urls[at]}/v2/models/${model}/stats`);
  assert.equal(answer.status, 200, answer.bytes.toString());
  const { model_stats } = answer.json() as { model_stats: Statistics[] };
  assert.equal(model_stats.length, 1);
  return model_stats[0]!;
}

/** Hosts tell within a quarter of a second what they have counted, which busy cores make longer. */
function settled(model: string, isThere: (stats: Statistics["inference_stats"]) => boolean): Promise<Statistics> {
  return until(`what ${model} answered to be counted`, async () => {
    const seen = await statisticsOf(model);
    return isThere(seen.inference_stats) && seen;
  });
}

test("what was answered is counted, once, at every coordinator alike", async () => {
  const startMs = Date.now();
  const answers = await Promise.all(Array.from({ length: 60 }, (_, at) => infer("layers", row(at % 7, at % 3 === 0 ? 2 : 1), at % 2)));
  assert.ok(answers.every(({ status }) => status === 200));
  const seen = await settled("layers", ({ success }) => success.count >= 60);
  assert.deepEqual([seen.name, seen.version], ["layers", "1"]);
  const { success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss } = seen.inference_stats;
  assert.equal(success.count, 60, JSON.stringify(seen));
  assert.equal(seen.inference_count, 80);
  for (const counted of [queue, compute_input, compute_infer, compute_output]) assert.equal(counted.count, 60);
  for (const counted of [fail, cache_hit, cache_miss]) assert.deepEqual(counted, { count: 0, ns: 0 });
  const parts = queue.ns + compute_input.ns + compute_infer.ns + compute_output.ns;
  assert.ok(success.ns >= parts && compute_infer.ns > 0, `${success.ns} ns of which ${parts} are told apart`);
  assert.ok(Math.abs(seen.last_inference - Date.now()) < 10_000 && seen.last_inference >= startMs - 1_000, String(seen.last_inference));
  const runs = seen.batch_stats.reduce((sum, { compute_infer: { count } }) => sum + count, 0);
  const items = seen.batch_stats.reduce((sum, { batch_size, compute_infer: { count } }) => sum + batch_size * count, 0);
  assert.deepEqual([runs, items], [seen.execution_count, 80]);
  assert.ok(seen.batch_stats.every(({ batch_size }) => batch_size <= 8));
  assert.deepEqual(await statisticsOf("layers", 1), seen);
});

test("what failed is counted apart: an inference that expired, and one whose caller left", async () => {
  const before = (await statisticsOf("slow")).inference_stats;
  const one = { inputs: [floats("x", [1], [1])] };
  const blocked = [infer("slow", one), infer("slow", one)]; // one for each host
  await until("both to run", async () => {
    const { items } = (await call(`${cluster.url}/v1/jobs?model=slow&state=running`)).json() as { items: unknown[] };
    return items.length === 2;
  });
  const late = await infer("slow", { ...one, parameters: { timeout: 400_000 } });
  assert.ok(late.status === 504 || late.status === 503, late.bytes.toString());
  for (const answer of await Promise.all(blocked)) assert.equal(answer.status, 200);
  const { inference_stats: after } = await settled("slow", ({ success }) => success.count >= before.success.count + 2);
  assert.equal(after.success.count - before.success.count, 2);
  assert.equal(after.fail.count - before.fail.count, late.status === 504 ? 1 : 0, "what was refused was never admitted");
  assert.ok(late.status === 503 || after.fail.ns - before.fail.ns >= 90_000_000, "most of its time it waited");
});

test("answers from the cache are successes without a run", async () => {
  for (let at = 0; at < 3; at++) assert.equal((await infer("cached", row(0), at % 2)).status, 200);
  const { execution_count, inference_count, inference_stats } = await settled("cached", ({ success }) => success.count >= 3);
  const { cache_hit, cache_miss, compute_infer, queue, success } = inference_stats;
  assert.deepEqual([inference_count, execution_count], [1, 1]);
  assert.deepEqual([success.count, queue.count, compute_infer.count, cache_hit.count, cache_miss.count], [3, 3, 1, 2, 1]);
  assert.ok(cache_hit.ns > 0 && cache_miss.ns > 0, "and how long looking them up took");
});

test("numbers outlive every process: coordinators and hosts that are restarted or drained", async () => {
  const [layers, cached] = [await statisticsOf("layers"), await statisticsOf("cached")];
  await Promise.all(cluster.coordinators.map((coordinator) => coordinator.kill()));
  await Promise.all(cluster.coordinators.map((coordinator) => coordinator.respawn()));
  assert.deepEqual([await statisticsOf("layers"), await statisticsOf("cached", 1)], [layers, cached]);
  await until("a host", async () => (await infer("layers", row(0))).status === 200, { everyMs: 100 });
  const before = await statisticsOf("layers");
  assert.deepEqual(await Promise.all(cluster.workers.map((worker) => worker.stop())), [0, 0]);
  await Promise.all(cluster.workers.map((worker) => worker.respawn()));
  await until("a host again", async () => (await infer("layers", row(1))).status === 200, { everyMs: 100 });
  const { inference_stats } = await settled("layers", ({ success }) => success.count > before.inference_stats.success.count);
  assert.equal((await statisticsOf("layers", 1)).inference_stats.success.count, inference_stats.success.count);
});

test("a host that ends in order tells before it goes what it has counted", async () => {
  const before = (await statisticsOf("layers")).inference_stats.success.count;
  const answers = await Promise.all(Array.from({ length: 20 }, (_, at) => infer("layers", row(at))));
  const stopped = cluster.workers.map((worker) => worker.stop()); // at once, before the next beat
  assert.ok(answers.every(({ status }) => status === 200));
  await Promise.all(stopped);
  assert.equal((await statisticsOf("layers")).inference_stats.success.count - before, 20);
});
