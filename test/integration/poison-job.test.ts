/** A job that takes its host down, with real processes: whoever runs it is killed, and only that job is given up; it is kept, and can be run again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { Switchyard } from "switchyard";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses, type WorkerProcess } from "../support/processes.ts";
import { directRun, distance, emptyRepository, layersModel, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** A run takes some 300 ms at least: whoever looks every few milliseconds sees each claim in time to kill its host. */
const graph = layersModel(200, 2_048);
const rows = rowsOf(8);
const guilty = 3;

test("a job that takes three hosts down is given up alone, listed with its inputs, and can be submitted again", async (t) => {
  await using models = await emptyRepository();
  await models.add("deadly", graph, { settings: "max_batch_items: 8\n" });
  const expected = await directRun(graph, rows);
  await using cluster = await startProcesses({ workers: 2, models: models.folder });
  const redis = new Redis(cluster.redis.url);
  t.after(() => redis.disconnect());
  const { items } = (await call(`${cluster.url}/v1/models/deadly`)).json() as { items: { digest: string }[] };
  const claims = `${keys.base(queueTag("deadly", items[0]!.digest))}claims`;
  const submit = async (row: Float32Array): Promise<string> => {
    const body = { model: "deadly", timeout_ms: 300_000, tags: { sent: "neighbours" }, inputs: [floats("x", [1, 32], row)] };
    const answer = await call(`${cluster.url}/v1/jobs`, { body });
    assert.equal(answer.status, 202, answer.bytes.toString());
    return answer.json().id;
  };
  const held = async ({ incarnation }: WorkerProcess): Promise<string[]> =>
    [...((await redis.hget(claims, incarnation)) ?? "").matchAll(/ ([\w-]+)=\d+/g)].map(([, id]) => id!);

  await Promise.all(rows.slice(0, 2).map(submit)); // both hosts are busy while the batch gathers
  const ids = await Promise.all(rows.map(submit));
  const poison = ids[guilty]!;
  const companies: number[] = [];
  const killed = new Set<string>();
  const respawned: Promise<void>[] = [];
  for (let death = 1; death <= 3; death++) {
    const { worker, company } = await until(
      `claim ${death} of the poison job`,
      async () => {
        for (const one of cluster.workers.filter(({ incarnation }) => !killed.has(incarnation))) {
          const claimed = await held(one);
          if (claimed.includes(poison)) return { worker: one, company: claimed.length };
        }
        return undefined;
      },
      { withinMs: 30_000, everyMs: 3, show: () => cluster.log() },
    );
    killed.add(worker.incarnation);
    await worker.kill();
    companies.push(company);
    respawned.push(worker.respawn()); // meanwhile the other host may get the job
  }
  await Promise.all(respawned);
  const ended = await jobView(cluster.url, poison, 30);
  assert.deepEqual([ended.state, ended.error?.code, ended.attempt], ["failed", "poison", 3]);
  t.diagnostic(`jobs in the claims of the hosts that died: ${companies.join(", ")}`);
  assert.ok(companies[0]! > 1, "its neighbours were in the first claim");
  assert.deepEqual(companies.slice(1), [1, 1], "from then on it was run alone");

  for (const [at, id] of ids.entries()) {
    if (at === guilty) continue;
    const view = await jobView(cluster.url, id, 30);
    assert.deepEqual([view.state, view.error], ["succeeded", undefined], `neighbour ${at}`);
    const result = (await call(`${cluster.url}/v1/jobs/${id}/result`)).json();
    assert.ok(distance(result.outputs[0].data, expected[at]!) < 1e-4);
  }

  const client = new Switchyard({ url: cluster.url });
  const { items: letters } = await client.deadLetters.list({ model: "deadly" });
  assert.deepEqual(
    letters.map(({ id, hosts_died, inputs_kept, error }) => [id, hosts_died, inputs_kept, error?.code]),
    [[poison, 3, true, "poison"]],
  );

  const metrics = /"metrics":"([^"]+)"/.exec(cluster.coordinators[0]!.log())![1]!;
  const gauge = async (count: number) => {
    const text = (await call(`${metrics}/metrics`)).bytes.toString();
    return text.includes(`switchyard_dead_letters{model="deadly"} ${count}\n`);
  };
  await until("the metric to count it", () => gauge(1), { withinMs: 15_000 });

  await Promise.all(rows.slice(0, 2).map(submit)); // both hosts are busy while it waits with others like it
  const [again, ...others] = await Promise.all([client.job(poison).retry(), ...rows.slice(0, 4).map(submit)]);
  const result = await again.result({ timeoutMs: 60_000 });
  assert.ok(distance(result.outputs.y!.data as Float32Array, expected[guilty]!) < 1e-4, "it ran with the inputs of the first");
  const { retry_of, tags, timings } = await again.status();
  assert.deepEqual([retry_of, tags, timings?.batch_items], [poison, { sent: "neighbours" }, 1], "it runs alone from the start");
  const batches = await Promise.all(others.map(async (id) => (await jobView(cluster.url, id, 30)).timings?.batch_items));
  t.diagnostic(`those that waited with it ran in batches of ${batches.join(", ")}`);
  assert.equal((await client.job(poison).retry()).id, again.id, "asked again, it is the same new job");
  assert.equal((await client.job(poison).status()).state, "failed", "the old one stays as it ended");
  assert.deepEqual((await client.deadLetters.list()).items, []);
  await until("the metric to count none", () => gauge(0), { withinMs: 15_000 });
});
