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
/** Jobs that were handed over, in order, and to whom. */
const handed: { id: string; incarnation: string }[] = [];

before(async () => {
  cluster = await startProcesses({ workers: 2, redisPersists: false });
  listener = new Redis(cluster.redis.url);
  listener.on("pmessage", (_pattern: string, channel: string, message: string) => {
    const [, line] = message.split("\n");
    if (line !== undefined) handed.push({ id: line.split(" ")[0]!, incarnation: channel.split(":").at(-1)! });
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

const handedTo = (id: string): string | undefined => handed.find((one) => one.id === id)?.incarnation;

/** One after the other, until the last one was handed over; answers its host, which lingers. */
async function oneAtATime(): Promise<WorkerProcess> {
  for (let at = 0; at < 2_000; at++) {
    const { view } = await one();
    assert.equal(view.state, "succeeded");
    const incarnation = handedTo(view.id);
    const host = cluster.workers.find((worker) => worker.incarnation === incarnation);
    if (host) return host;
  }
  throw new Error(`nothing is handed over\n${cluster.log()}`);
}

async function hosts(): Promise<HostView[]> {
  return (await call(`${cluster.url}/v1/hosts`)).json().items;
}

const isReady = async (id: string): Promise<boolean> => (await hosts()).some((host) => host.id === id && host.state === "ready");

test("who asks one at a time is answered by hosts that hear of the job itself, rightly", async () => {
  const { view: first } = await one();
  await oneAtATime();
  for (let at = 0; at < several; at++) {
    const { result, state } = (await one()).view;
    assert.deepEqual([state, result?.outputs], ["succeeded", first.result?.outputs]);
  }
});

test("when the host that lingers is killed, the job that was handed to it is another's long before it is known to be dead", async () => {
  let isHandedToTheDead = false;
  for (let round = 0; round < 10 && !isHandedToTheDead; round++) {
    const victim = await oneAtATime();
    victim.signal("SIGKILL");
    const { tookMs, view } = await one();
    isHandedToTheDead = handedTo(view.id) === victim.incarnation;
    assert.equal(view.state, "succeeded", cluster.log());
    assert.notEqual(view.host, victim.hostId);
    assert.ok(tookMs < presenceMs - 500, `it took ${tookMs} ms`);
    await victim.exited;
    await victim.respawn();
    await until("it to be back", () => isReady(victim.hostId), { show: () => cluster.log() });
  }
  assert.ok(isHandedToTheDead, "no job came in the time of a linger");
});

test("of a host that was only frozen nothing is told, whatever it still does when it is woken", async () => {
  let frozen: WorkerProcess;
  let seen: Awaited<ReturnType<typeof one>>;
  let round = 0;
  do {
    assert.ok(round++ < 10, "no job came in the time of a linger");
    frozen = await oneAtATime();
    frozen.signal("SIGSTOP");
    seen = await one();
    frozen.signal("SIGCONT");
  } while (handedTo(seen.view.id) !== frozen.incarnation);
  const { tookMs, view } = seen;
  assert.equal(view.state, "succeeded", cluster.log());
  assert.ok(tookMs < presenceMs - 500, `it took ${tookMs} ms`);
  const views = await Promise.all(Array.from({ length: several }, one));
  for (const { view: later } of views) assert.equal(later.state, "succeeded");
  const again = (await call(`${cluster.url}/v1/jobs/${view.id}`)).json() as JobView;
  assert.deepEqual([again.state, again.host, again.attempt], [view.state, view.host, view.attempt]);
});

test("a host that is drained by request in the midst of it leaves with one of its next jobs", async () => {
  const drained = await oneAtATime();
  const path = `${cluster.url}/v1/hosts/${drained.hostId}/drain`;
  assert.equal((await call(path, { method: "POST" })).status, 202);
  // without a pause: the host is never seen to linger
  const lateMs = performance.now() + 30_000;
  for (let elsewhere = 0; elsewhere < several; ) {
    assert.ok(performance.now() < lateMs, `it still has jobs\n${cluster.log()}`);
    const { host, state } = (await one()).view;
    assert.equal(state, "succeeded");
    elsewhere = host === drained.hostId ? 0 : elsewhere + 1;
  }
  await call(path, { method: "DELETE" });
});
