/** A master that three sentinels watch is killed: its replica takes its place, callers are told in time meanwhile, and work goes on by itself. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { call, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { ask, RedisFarm, startSentinels } from "../support/redis-forms.ts";
import { emptyRepository, layersModel, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** Of a call, while the store is away. */
const toldMs = 4_000;
const servesAgainMs = 15_000;
/** How long sentinels wait before they count a master as gone: until it is to go, no busy machine may make them think so. */
const quietMs = 60_000;
const soonMs = 1_000;
const secret = { password: "hunter2" };
const inputs = [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rowsOf(1)[0]!] }];

async function offsetOf(port: number): Promise<number> {
  const info = await ask(port, (redis) => redis.info("replication"), secret);
  return Number(/^(?:slave_repl_offset|master_repl_offset):(\d+)/m.exec(info)?.[1]);
}

async function scriptsOf(port: number): Promise<number> {
  return Number(/^number_of_cached_scripts:(\d+)/m.exec(await ask(port, (redis) => redis.info("memory"), secret))?.[1]);
}

/** The first sentinel that is named is not there. */
const awayFirst = (url: string): string => url.replace("@", "@127.0.0.1:1,");

interface Failover {
  /** After the master was gone. */
  submittedMs: number;
  servedMs: number;
  allMs: number;
  slowestRefusalMs: number;
  waiting: number;
}

/** Jobs wait, the master goes; answers when everything acknowledged, before and after, has succeeded. */
async function failOver(how: "kill" | "freeze"): Promise<Failover> {
  await using farm = await RedisFarm.open();
  const { master, replica, sentinels, url: store } = await startSentinels(farm, { downAfterMs: quietMs });
  await using models = await emptyRepository();
  await models.add("layers", layersModel(100), { settings: "max_batch_items: 2\n" });
  await using cluster = await startProcesses({ models: models.folder, env: { SWITCHYARD_REDIS_URL: awayFirst(store) } });
  const { url } = cluster;
  const submit = () => call(`${url}/v1/jobs`, { body: { model: "layers", inputs, timeout_ms: 120_000 } });
  const infer = () => call(`${url}/v2/models/layers/infer`, { body: { inputs } });
  assert.equal((await infer()).status, 200, cluster.log());

  const ids: string[] = [];
  // not all at once: beside others that want the cores the store would answer the last of them too late
  while (ids.length < 300) {
    for (const answer of await Promise.all(Array.from({ length: 50 }, submit))) {
      assert.equal(answer.status, 202, answer.bytes.toString());
      ids.push(answer.json().id as string);
    }
  }
  const last = await offsetOf(master.port);
  await until("the replica to have what was acknowledged", async () => (await offsetOf(replica.port)) >= last);
  const waiting = (await Promise.all(ids.map((id) => jobView(url, id)))).filter(({ state }) => state === "queued").length;
  assert.ok(waiting > 20, `only ${waiting} jobs wait: none would be served after the failover`);

  assert.equal(await scriptsOf(replica.port), 0, "the new master is to be taught every script anew");

  for (const { port } of sentinels) await ask(port, (redis) => redis.call("SENTINEL", "SET", "yard", "down-after-milliseconds", soonMs));
  const goneMs = performance.now();
  if (how === "kill") await master.kill();
  else master.signal("SIGSTOP");
  const held = infer();
  let [slowestRefusalMs, submittedMs, servedMs] = [0, 0, 0];
  while (servedMs === 0 || submittedMs === 0) {
    const [submitted, inferred] = await Promise.all([submit(), infer()]);
    const nowMs = performance.now() - goneMs;
    for (const { status, tookMs } of [submitted, inferred]) if (status >= 500) slowestRefusalMs = Math.max(slowestRefusalMs, tookMs);
    if (submitted.status === 202) {
      submittedMs ||= nowMs;
      ids.push(submitted.json().id);
    }
    if (inferred.status === 200) servedMs ||= nowMs;
    assert.ok(nowMs < 25_000, `not served ${nowMs.toFixed(0)} ms after the master went\n${farm.logs()}\n${cluster.log()}`);
    await sleep(50);
  }
  assert.ok((await held).tookMs < toldMs, `a held call hung for ${(await held).tookMs.toFixed(0)} ms`);
  assert.ok(slowestRefusalMs <= toldMs, `a call was told after ${slowestRefusalMs.toFixed(0)} ms`);
  assert.ok(submittedMs > 0 && submittedMs <= servesAgainMs, `submissions were taken ${submittedMs} ms after the master went`);
  for (const id of ids) {
    const view = await jobView(url, id, 20);
    assert.equal(view.state, "succeeded", JSON.stringify(view));
  }
  const allMs = performance.now() - goneMs;
  assert.ok((await scriptsOf(replica.port)) > 5);
  assert.match(await ask(replica.port, (redis) => redis.info("replication"), secret), /role:master/);
  assert.doesNotMatch(cluster.log(), /"lost"/, "a worker was given up for its store's sake");
  if (how === "freeze") {
    master.signal("SIGCONT"); // it believes to be the master until the sentinels tell it otherwise, some 10 s later
    for (let at = 0; at < 20; at++) {
      assert.equal((await infer()).status, 200);
      await sleep(100);
    }
  }
  return { submittedMs, servedMs, allMs, slowestRefusalMs, waiting };
}

function told({ submittedMs, servedMs, allMs, slowestRefusalMs, waiting }: Failover): string {
  const [submitted, served, all, slowest] = [submittedMs, servedMs, allMs, slowestRefusalMs].map((ms) => `${ms.toFixed(0)} ms`);
  return `submissions after ${submitted}, inferences after ${served}, all done after ${all}; ${waiting} of 300 waited; slowest refusal ${slowest}`;
}

describe("a master that is gone", { concurrency: 2 }, () => {
  test("a killed master's replica takes over within 15 s: submissions go on, waiting jobs are served, and what was acknowledged is there", async (t) => {
    t.diagnostic(told(await failOver("kill")));
  });

  test("a frozen master is left for its replica as well, and does no harm when it wakes", async (t) => {
    t.diagnostic(told(await failOver("freeze")));
  });
});
