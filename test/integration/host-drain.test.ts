/** Draining a host by request, with real processes: it finishes what it has, others take the rest, and the wish outlives its process. */

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { HostView, JobView } from "@switchyard/protocol";
import { Redis } from "ioredis";
import { hostIdAt } from "../../worker/src/config.ts";
import { call } from "../support/calls.ts";
import { type Processes, startProcesses, type WorkerProcess } from "../support/processes.ts";
import { until } from "../support/until.ts";

let cluster: Processes;

before(async () => {
  cluster = await startProcesses({ workers: 2 });
});
after(() => cluster?.stop());

const image = Array.from({ length: 64 }, (_, at) => at % 17);
const body = { model: "digits", inputs: [{ name: "image", datatype: "FP32", shape: [1, 64], data: image }], max_attempts: 1 };

async function hosts(): Promise<HostView[]> {
  return (await call(`${cluster.url}/v1/hosts`)).json().items;
}

async function isState(id: string, state: HostView["state"]): Promise<boolean> {
  return (await hosts()).some((host) => host.id === id && host.state === state);
}

const drain = (id: string, method: "POST" | "DELETE") => call(`${cluster.url}/v1/hosts/${id}/drain`, { method });

async function isFree(port: number): Promise<boolean> {
  const probe = createServer().listen(port, "127.0.0.1");
  try {
    await once(probe, "listening");
  } catch {
    return false;
  }
  probe.close();
  await once(probe, "close");
  return true;
}

/** The first of two beside each other, beneath those that the system gives to whoever asks for any: nobody takes them while their worker is away. */
async function quietPorts(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 30_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

async function run(count: number): Promise<JobView[]> {
  const one = async (): Promise<JobView> =>
    (await call(`${cluster.url}/v1/jobs`, { body, headers: { prefer: "wait=60" } })).json() as JobView;
  return Promise.all(Array.from({ length: count }, one));
}

test("a host that is drained under load costs no job, and takes none until it may again", async () => {
  const ids = (await hosts()).map(({ id }) => id).sort();
  const [drained, other] = ids as [string, string];
  let isDone = false;
  const underLoad: JobView[] = [];
  const load = (async () => {
    while (!isDone) underLoad.push(...(await run(300)));
  })();
  await until("both to work", async () => new Set(underLoad.map(({ host }) => host)).size === 2, { show: () => cluster.log() });
  const answer = await drain(drained, "POST");
  assert.deepEqual([answer.status, answer.json().id], [202, drained]);
  await until("the host to say so", () => isState(drained, "draining"));
  await until("its last batch", async () => (await hosts()).find(({ id }) => id === drained)?.tickets === 0);
  isDone = true;
  await load;
  assert.deepEqual([...new Set(underLoad.map(({ state }) => state))], ["succeeded"], "one attempt is all that they have");
  const later = await run(64);
  assert.deepEqual([...new Set(later.map(({ host }) => host))], [other]);
  const view = (await hosts()).find(({ id }) => id === drained);
  assert.deepEqual(view?.warm, ["digits@1"], "it keeps its models");
  assert.ok((view?.batches?.["digits@1"]?.runs ?? 0) > 0 && (view?.batches?.["digits@1"]?.items ?? 0) > 0);

  const process = cluster.workers.find(({ name }) => name === drained);
  assert.ok(process, `${drained} is none of ${cluster.workers.map(({ name }) => name)}`);
});

test("when all are drained jobs wait, and the first host that may again runs them", async () => {
  const ids = (await hosts()).map(({ id }) => id).sort();
  for (const id of ids) await drain(id, "POST");
  for (const id of ids) await until(`${id} to drain`, () => isState(id, "draining"));
  const { id } = (await call(`${cluster.url}/v1/jobs`, { body })).json();
  assert.equal((await call(`${cluster.url}/v1/jobs/${id}?wait=1`)).json().state, "queued");
  assert.equal((await drain(ids[0]!, "DELETE")).status, 202);
  const ended = (await call(`${cluster.url}/v1/jobs/${id}?wait=60`)).json();
  assert.deepEqual([ended.state, ended.host], ["succeeded", ids[0]], cluster.log());
});

test("a host whose drain is lifted while the store refuses it the subscription takes jobs once it may", async () => {
  const [back, other] = (await hosts()).map(({ id }) => id).sort() as [string, string];
  const log = () => cluster.workers.find(({ name }) => name === back)!.log();
  const timesAsked = (): number => log().split("drain_asked").length;
  const before = timesAsked();
  await drain(back, "POST");
  await drain(other, "POST");
  for (const id of [back, other]) await until(`${id} to drain`, () => isState(id, "draining"));
  await until(`${back} to know of it`, async () => timesAsked() > before, { show: log }); // a drain that is lifted before it looks is none to it
  const { port, password } = cluster.redis;
  const store = new Redis({ port, password });
  try {
    await store.call("ACL", "SETUSER", "default", "-info"); // asked by each new subscription
    await drain(back, "DELETE");
    await until("the refusal", async () => log().includes("beat_trouble"), { show: log });
    await store.call("ACL", "SETUSER", "default", "+info");
    // the coordinator's own connections may be refused in that moment too, and it then tells to come back
    let answer = await call(`${cluster.url}/v1/jobs`, { body, headers: { prefer: "wait=60" } });
    for (let again = 0; answer.status === 503 && again < 20; again++) {
      await sleep(500);
      answer = await call(`${cluster.url}/v1/jobs`, { body, headers: { prefer: "wait=60" } });
    }
    const ended = answer.json();
    assert.deepEqual([ended.state, ended.host], ["succeeded", back], `${JSON.stringify(ended)}\n${log()}\n${cluster.log()}`);
  } finally {
    await store.call("ACL", "SETUSER", "default", "+info");
    store.disconnect();
  }
});

test("a host that was drained and starts again takes no jobs until the drain is lifted", async () => {
  const [free, drained] = (await hosts()).map(({ id }) => id).sort() as [string, string];
  const worker = cluster.workers.find(({ name }) => name === drained)!;
  await worker.kill();
  await until("its loss", async () => !(await isState(drained, "draining")));
  void worker.respawn().catch(() => {}); // it is not ready while it may take no jobs
  await until("the drained host again", () => isState(drained, "draining"), { show: () => cluster.log() });
  assert.deepEqual([...new Set((await run(32)).map(({ host }) => host))], [free]);
  await drain(drained, "DELETE");
  await until("the host to take jobs", () => isState(drained, "ready"));
  await until("a job on it", async () => (await run(16)).some(({ host }) => host === drained));
});

test("a worker that was started by hand keeps its id and its drain when it is started again, and one beside it has its own", async () => {
  const port = await quietPorts();
  const env = { SWITCHYARD_HOST_ID: "", SWITCHYARD_METRICS: `127.0.0.1:${port - 1}` }; // workers take the next ones
  const worker = await cluster.addWorker(env);
  const other = await cluster.addWorker(env);
  const [first, second] = [worker.hostId, other.hostId];
  assert.deepEqual([first, second], [hostIdAt(port), hostIdAt(port + 1)]);
  await drain(first, "POST");
  await until("the drain", () => isState(first, "draining"));
  await worker.kill();
  await until("its loss", async () => !(await isState(first, "draining")));
  void worker.respawn().catch(() => {});
  await until("the drained host again", () => isState(first, "draining"), { show: () => worker.log() });
  await until("the other one to take jobs", () => isState(second, "ready"));
  await drain(first, "DELETE");
  await until("the host to take jobs", () => isState(first, "ready"));
  await Promise.all([worker.stop(), other.stop()]);
});

/** What a worker says of others that have its id. */
function toldOf(worker: WorkerProcess): { level: string; host: string; other: { incarnation: string; metrics: string }; fix: string }[] {
  const lines = worker.log().split("\n");
  return lines.filter((line) => line.includes('"host_id_shared"')).map((line) => JSON.parse(line));
}

test("two workers of one id lose no job and are both told of it, and one that is started again at once is not", async () => {
  const [again, beside] = cluster.workers as [WorkerProcess, WorkerProcess];
  const dead = again.incarnation;
  await again.kill();
  await again.respawn();
  const listed = (await hosts()).filter(({ id }) => id === again.hostId);
  assert.ok(
    listed.some(({ incarnation }) => incarnation === dead),
    "the cluster has not forgotten the one in whose place it is",
  );
  const twin = await cluster.addWorker({ SWITCHYARD_HOST_ID: again.hostId });
  await until("both to tell it", async () => toldOf(again).length > 0 && toldOf(twin).length > 0, { show: () => cluster.log() });
  for (const [one, other] of [
    [again, twin],
    [twin, again],
  ] as const) {
    const told = toldOf(one).map(({ fix, host, level, other: of }) => ({
      level,
      host,
      of: of.incarnation,
      fix: /SWITCHYARD_HOST_ID/.test(fix),
    }));
    assert.deepEqual(told, [{ level: "warn", host: again.hostId, of: other.incarnation, fix: true }]);
  }
  assert.deepEqual(toldOf(beside), []);
  const shown = await until("the list to show it", async () => {
    const pairs = (await hosts()).map(({ id_shared_with: others, incarnation }) => [incarnation, others?.map((of) => of.incarnation)]);
    return pairs.some(([, others]) => others !== undefined) && pairs;
  });
  const expected = new Map([
    [again.incarnation, [twin.incarnation]],
    [twin.incarnation, [again.incarnation]],
  ]);
  for (const [incarnation, others] of shown) assert.deepEqual(others, expected.get(incarnation as string), `${incarnation}`);
  const ended = await run(300);
  assert.deepEqual([...new Set(ended.map(({ state }) => state))], ["succeeded"], "one attempt is all that they have");
  await twin.stop();
  await until("the list to forget it", async () => (await hosts()).every(({ id_shared_with: others }) => others === undefined));
});
