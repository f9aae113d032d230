/** How long things are kept: results for their time, then word that they are gone; held calls hardly longer than their call. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { call, floats } from "../support/calls.ts";
import { ask, callTool, withTasks } from "../support/mcp-client.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { until } from "../support/until.ts";

const keptMs = 4_000;
const heldMs = 60_000;
const inputs = [floats("image", [1, 64], new Float32Array(64))];

let cluster: Processes;
let redis: Redis;
before(async () => {
  cluster = await startProcesses({ env: { SWITCHYARD_RESULT_TTL: "4s" } });
  redis = new Redis(cluster.redis.url);
});
after(async () => {
  redis?.disconnect();
  await cluster?.stop();
});

/** Every key whose name has the pattern, with what is left of its life; -1 for ever. */
async function lifetimes(pattern: string): Promise<Map<string, number>> {
  const names = await redis.keys(pattern);
  return new Map(await Promise.all(names.map(async (name) => [name, await redis.pttl(name)] as const)));
}

test("a result is there for its time, then its job is told as gone, with what became of it", async () => {
  const submitted = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs } });
  const { id } = submitted.json() as JobView;
  const ended = (await call(`${cluster.url}/v1/jobs/${id}?wait=30`)).json() as JobView;
  assert.equal(ended.state, "succeeded");
  assert.equal((await call(`${cluster.url}/v1/jobs/${id}/result`)).status, 200);
  const gone = await until("the result to go", async () => {
    const answer = await call(`${cluster.url}/v1/jobs/${id}/result`);
    return answer.status !== 200 && answer;
  });
  assert.ok(Date.now() - Date.parse(ended.finished_at!) >= keptMs - 100, "gone too early");
  for (const answer of [gone, await call(`${cluster.url}/v1/jobs/${id}`)]) {
    assert.equal(answer.status, 410, answer.bytes.toString());
    assert.equal(answer.json().code, "result_expired");
  }
  assert.equal((await call(`${cluster.url}/v1/jobs/${id}`)).json().state, "succeeded");
  const [tomb] = (await lifetimes(`*tomb:${id}`)).values();
  assert.ok(tomb! > 86_000_000 && tomb! <= 86_400_000 + keptMs, `the tombstone lives ${tomb} ms`);
  const unknown = await call(`${cluster.url}/v1/jobs/${id.slice(0, -1)}${id.endsWith("a") ? "b" : "a"}`);
  assert.equal(unknown.status, 404);
});

test("the record of a held call lives a minute beyond its end, without a tombstone", async () => {
  const answer = await call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } });
  assert.equal(answer.status, 200);
  const records = await lifetimes("*}:job:*");
  assert.equal(records.size, 1);
  for (const [name, ms] of records) {
    assert.ok(ms > heldMs - 5_000 && ms <= heldMs, `${name} lives ${ms} ms`);
    assert.equal((await lifetimes(`*tomb:${name.split(":job:")[1]}`)).size, 0);
  }
});

test("records of held calls that ended together live a minute beyond their end as well, and then go from a queue that nobody uses any more", async () => {
  const calls = Array.from({ length: 48 }, () => call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } }));
  for (const answer of await Promise.all(calls)) assert.equal(answer.status, 200);
  const together = async (): Promise<string[]> => [...(await lifetimes("*}:job:*"))].flatMap(([name, ms]) => (ms < 0 ? [name] : []));
  const names = await together();
  const [list] = (await redis.keys("*}:ended")) as [string];
  const standing = await redis.zrange(list, "0", "-1", "WITHSCORES");
  const members = standing.filter((_, at) => at % 2 === 0);
  const base = list.slice(0, -"ended".length);
  assert.ok(names.length > 1);
  assert.deepEqual(names.toSorted(), members.flatMap((ids) => ids.split(" ").map((id) => `${base}job:${id}`)).sort());
  const [seconds] = await redis.time();
  for (const member of members) {
    const leftMs = Number(await redis.zscore(list, member)) - 1_000 * Number(seconds);
    assert.ok(leftMs > heldMs - 10_000 && leftMs <= heldMs + 1_000, `${leftMs} ms`);
    await redis.zadd(list, 1_000 * Number(seconds), member); // as if that minute were over
  }
  await until("they are forgotten", async () => (await together()).length === 0, { withinMs: 60_000 });
  assert.deepEqual(await redis.keys("*}:ended"), []);
});

test("the jobs of a batch are kept beyond the last moment at which any of them may end", async () => {
  const timeoutMs = 30_000;
  const items = Array.from({ length: 2 }, () => ({ image: [Array.from({ length: 64 }, () => 1)] }));
  const args = { model: "digits", items, timeout_ms: timeoutMs, task: true };
  const { result: task } = await callTool(cluster.url, "infer_batch", args, { capabilities: withTasks });
  const about = { method: "tasks/get", params: { taskId: task.taskId }, capabilities: withTasks };
  await until("its end", async () => (await ask(cluster.url, about)).result.status === "completed", { withinMs: 60_000 });
  const [leadMs] = (await lifetimes(`*job:${task.taskId}`)).values();
  assert.ok(leadMs! > timeoutMs - 5_000 && leadMs! <= timeoutMs + keptMs, `the first job lives ${leadMs} ms`);
});

test("nothing of an ended job stays for ever, and its inputs are gone with its end", async () => {
  assert.equal((await lifetimes("*}:in:*")).size, 0);
  for (const pattern of ["*}:job:*", "*}:out:*", "*}:tomb:*"]) {
    for (const [name, ms] of await lifetimes(pattern)) assert.ok(ms > 0, `${name} has no end`);
  }
});
