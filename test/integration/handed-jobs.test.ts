/** Jobs that come one at a time are handed over to the host that lingers, with real processes: also when that host dies, freezes, or is drained meanwhile. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { HostView, JobView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { call } from "../support/calls.ts";
import { type Processes, startProcesses, type WorkerProcess } from "../support/processes.ts";
import { until } from "../support/until.ts";

/** More than enough to know that jobs come one at a time. */
const several = 30;
/** When a silent host is known to be dead; what waits for that takes longer. */
const presenceMs = 3_000;

let cluster: Processes;
let listener: Redis;
/** Incarnations that jobs were handed to, in order. */
const handed: string[] = [];

before(async () => {
  cluster = await startProcesses({ workers: 2, redisPersists: false });
  listener = new Redis(cluster.redis.url);
  listener.on("pmessage", (_pattern: string, channel: string, message: string) => {
    if (message.includes("\n")) handed.push(channel.split(":").at(-1)!);
  });
  await listener.psubscribe("sy:wake:*");
});
after(async () => {
  listener?.disconnect();
  await cluster?.stop();
});

const image = Array.from({ length: 64 }, (_, at) => at % 17);
const body = { model: "digits", inputs: [{ name: "image", datatype: "FP32", shape: [1, 64], data: image }], timeout_ms: 20_000 };

async function one(): Promise<{ view: JobView; tookMs: number }> {
  const answer = await call(`${cluster.url}/v1/jobs`, { body, headers: { prefer: "wait=30" } });
  return { view: answer.json() as JobView, tookMs: answer.tookMs };
}

/** One after the other, until the last ones were handed over; answers the host that lingers. */
async function oneAtATime(): Promise<WorkerProcess> {
  for (let round = 0; round < 40; round++) {
    const before = handed.length;
    for (let at = 0; at < several; at++) assert.equal((await one()).view.state, "succeeded");
    if (handed.length > before) return lingering();
  }
  throw new Error(`nothing is handed over\n${cluster.log()}`);
}

const lingering = (): WorkerProcess => cluster.workers.find(({ incarnation }) => incarnation === handed.at(-1))!;

async function hosts(): Promise<HostView[]> {
  return (await call(`${cluster.url}/v1/hosts`)).json().items;
}

const isReady = async (id: string): Promise<boolean> => (await hosts()).some((host) => host.id === id && host.state === "ready");

test("who asks one at a time is answered by hosts that hear of the job itself, rightly", async () => {
  const { view: first } = await one();
  await oneAtATime();
  const before = handed.length;
  const views: JobView[] = [];
  for (let at = 0; at < several; at++) views.push((await one()).view);
  assert.ok(handed.length > before);
  for (const { attempt, result, state } of views) {
    assert.deepEqual([state, attempt], ["succeeded", 1]);
    assert.deepEqual(result?.outputs, first.result?.outputs);
  }
});

test("when the host that lingers is killed, the job that was handed to it is another's long before it is known to be dead", async () => {
  let handedToTheDead = 0;
  for (let round = 0; round < 3; round++) {
    const victim = await oneAtATime();
    const before = handed.length;
    victim.signal("SIGKILL");
    const { tookMs, view } = await one();
    if (handed.length > before && handed[before] === victim.incarnation) handedToTheDead += 1;
    assert.equal(view.state, "succeeded", cluster.log());
    assert.notEqual(view.host, victim.hostId);
    assert.ok(tookMs < presenceMs - 500, `it took ${tookMs} ms`);
    await victim.exited;
    await victim.respawn();
    await until("it to be back", () => isReady(victim.hostId), { show: () => cluster.log() });
  }
  assert.ok(handedToTheDead > 0, "no job came in the time of a linger");
});

test("of a host that was only frozen nothing is told, whatever it still does when it is woken", async () => {
  const frozen = await oneAtATime();
  frozen.signal("SIGSTOP");
  const { tookMs, view } = await one();
  frozen.signal("SIGCONT");
  assert.equal(view.state, "succeeded", cluster.log());
  assert.ok(tookMs < presenceMs - 500, `it took ${tookMs} ms`);
  const views = await Promise.all(Array.from({ length: several }, one));
  for (const { view: later } of views) assert.equal(later.state, "succeeded");
  const again = (await call(`${cluster.url}/v1/jobs/${view.id}`)).json() as JobView;
  assert.deepEqual([again.state, again.host, again.attempt, again.result], [view.state, view.host, view.attempt, view.result]);
});

test("a host that is drained by request in the midst of it costs no job an attempt", async () => {
  const drained = await oneAtATime();
  const path = `${cluster.url}/v1/hosts/${drained.hostId}/drain`;
  assert.equal((await call(path, { method: "POST" })).status, 202);
  const seen: JobView[] = [];
  await until(
    "the others to have it all",
    async () => {
      seen.push((await one()).view);
      return seen.slice(-several).every(({ host }) => host !== drained.hostId) && seen.length > several;
    },
    { show: () => cluster.log() },
  );
  for (const { attempt, state } of seen) assert.deepEqual([state, attempt], ["succeeded", 1]);
  await call(path, { method: "DELETE" });
});
