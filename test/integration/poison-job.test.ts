/** One job ends every process that runs it: three hosts die, it alone is given up, and submitted again it runs with the inputs that were kept. */

import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { JobView, TimelineView } from "@switchyard/protocol";
import { Switchyard } from "switchyard";
import type { DeviceSettings } from "../chaos/device.ts";
import { answerTo, deviceGraph, deviceModelName, rowOf } from "../chaos/device-model.ts";
import type { Execution } from "../chaos/ledger.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { emptyRepository } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const guilty = 100;
const numbers = Array.from({ length: 8 }, (_, at) => 97 + at);
/** Of each run: what is sent together meanwhile waits together. */
const runMs = 300;

test("a job that hosts die of is given up after three, its neighbours succeed, and it can be submitted again", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-poison-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [log, deadlyWhile] = [path.join(folder, "runs.jsonl"), path.join(folder, "deadly")];
  writeFileSync(deadlyWhile, "");
  const device: DeviceSettings = { log, host: "any", minMs: runMs, maxMs: runMs, deadlyEvery: guilty, deadlyWhile };
  await using models = await emptyRepository();
  await models.add(deviceModelName, deviceGraph(), { settings: "max_batch_items: 8\n" });
  const preload = new URL("../chaos/device.ts", import.meta.url).href;
  const workerEnv = { NODE_OPTIONS: `--import=${preload}`, CHAOS_DEVICE: JSON.stringify(device) };
  await using cluster = await startProcesses({ workers: 2, models: models.folder, workerEnv });
  let isOver = false;
  const kept = cluster.workers.map(async (worker) => {
    while (!isOver) {
      await worker.exited;
      // it may meet the job that is deadly before it has said that it is there, and the end of the test may find it starting
      if (!isOver) await worker.respawn().catch(() => {});
    }
  });
  t.after(() => {
    isOver = true;
  });

  const bodyOf = (number: number) => {
    const inputs = [floats("x", [1, 4], rowOf(number))];
    return { model: deviceModelName, timeout_ms: 300_000, tags: { sent: "neighbours" }, inputs };
  };
  const submit = async (number: number): Promise<string> => {
    const answer = await call(`${cluster.url}/v1/jobs`, { body: bodyOf(number) });
    assert.equal(answer.status, 202, answer.bytes.toString());
    return answer.json().id;
  };
  /** In one write, so that they wait together however long this takes. */
  const submitTogether = async (several: readonly number[]): Promise<string[]> => {
    const body = Buffer.from(several.map((number) => `${JSON.stringify(bodyOf(number))}\n`).join(""));
    const answer = await call(`${cluster.url}/v1/jobs:batch`, { body, headers: { "content-type": "application/x-ndjson" } });
    const lines = answer.bytes.toString().trim().split("\n");
    return lines.map((line) => (JSON.parse(line) as { job: JobView }).job.id);
  };
  const companies = (): number[] => {
    const runs = readFileSync(log, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Execution);
    return runs.filter((run) => run.numbers.includes(guilty)).map((run) => run.numbers.length);
  };

  await Promise.all([1, 2].map(submit)); // both hosts are busy while the batch gathers
  const together = await submitTogether(numbers);
  const ids = new Map(numbers.map((number, at) => [number, together[at]!] as const));
  const poison = ids.get(guilty)!;
  const ended = await until(
    "the poison to be given up",
    async () => {
      const view = await jobView(cluster.url, poison);
      return view.finished_at !== undefined && view;
    },
    { withinMs: 60_000, show: () => cluster.log() },
  );
  assert.deepEqual([ended.state, ended.error?.code, ended.attempt], ["failed", "poison", 3]);
  const { events } = (await call(`${cluster.url}/v1/jobs/${poison}/timeline`)).json() as TimelineView;
  const deaths = events.filter(({ event }) => event === "host_lost");
  assert.equal(deaths.length, 2, "of the third death the end tells");
  const starts = events.filter(({ event }) => event === "started");
  assert.deepEqual(
    starts.map(({ attempt }) => attempt),
    [1, 2, 3],
  );
  for (const { host } of [...starts, ...deaths]) assert.match(host ?? "", /^worker-[12]$/);
  const [first, ...later] = companies();
  assert.ok(first! > 1, "its neighbours were in the first run");
  assert.deepEqual(later, [1, 1], "from then on it was run alone");
  for (const [number, id] of ids) {
    if (number === guilty) continue;
    const view = await jobView(cluster.url, id, 30);
    assert.deepEqual([view.state, view.error], ["succeeded", undefined], `neighbour ${number}`);
    assert.deepEqual((await call(`${cluster.url}/v1/jobs/${id}/result`)).json().outputs[0].data, answerTo(number));
  }

  const client = new Switchyard({ url: cluster.url });
  const { items: letters } = await client.deadLetters.list({ model: deviceModelName });
  assert.deepEqual(
    letters.map(({ id, hosts_died, inputs_kept, error }) => [id, hosts_died, inputs_kept, error?.code]),
    [[poison, 3, true, "poison"]],
  );
  const metrics = /"metrics":"([^"]+)"/.exec(cluster.coordinators[0]!.log())![1]!;
  const gauge = async (count: number) => {
    const text = (await call(`${metrics}/metrics`)).bytes.toString();
    return text.includes(`switchyard_dead_letters{model="${deviceModelName}"} ${count}\n`);
  };
  await until("the metric to count it", () => gauge(1));

  rmSync(deadlyWhile); // whatever was wrong with the hosts has been mended
  await Promise.all([3, 4].map(submit)); // both hosts are busy while it waits with others like it
  const [again, ...others] = await Promise.all([client.job(poison).retry(), ...[5, 6, 7, 8].map(submit)]);
  const result = await again.result({ timeoutMs: 60_000 });
  assert.deepEqual([...(result.outputs.y!.data as Float32Array)], answerTo(guilty), "it ran with the inputs of the first");
  const { retry_of, tags, timings } = await again.status();
  assert.deepEqual([retry_of, tags, timings?.batch_items], [poison, { sent: "neighbours" }, 1], "it runs alone from the start");
  for (const id of others) assert.equal((await jobView(cluster.url, id, 30)).state, "succeeded");
  assert.equal((await client.job(poison).retry()).id, again.id, "asked again, it is the same new job");
  assert.equal((await client.job(poison).status()).state, "failed", "the old one stays as it ended");
  assert.deepEqual((await client.deadLetters.list()).items, []);
  await until("the metric to count none", () => gauge(0));
  isOver = true;
  await cluster.stop();
  await Promise.all(kept);
});
