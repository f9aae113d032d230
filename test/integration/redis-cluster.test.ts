/** Three real masters: models spread over them, tickets and notices work across them, lists are merged, and a master that goes takes only its own. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ClusterWire, keys, nodeText, queueTag, type RedisCommand, sendOnWire, slotOf, type WireClient } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { readConfig } from "../../coordinator/src/config.ts";
import { storeFindings } from "../../coordinator/src/embedded/store-check.ts";
import { call, jobView } from "../support/calls.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { ask, RedisFarm, type RedisNodeProcess, startRedisCluster } from "../support/redis-forms.ts";
import { emptyRepository, layersModel, type Repository, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const inputs = [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rowsOf(1)[0]!] }];
const names = Array.from({ length: 9 }, (_, at) => `layers-${at + 1}`);

/** The first node that is named is not there. */
const awayFirst = (url: string): string => url.replace("://", "://127.0.0.1:1,");

let farm: RedisFarm;
let store: { url: string; nodes: RedisNodeProcess[] };
let models: Repository;
let cluster: Processes;

before(async () => {
  farm = await RedisFarm.open();
  store = await startRedisCluster(farm);
  models = await emptyRepository();
  for (const name of names) await models.add(name, layersModel(2 + names.indexOf(name)));
  cluster = await startProcesses({
    models: models.folder,
    coordinators: 2,
    workers: 2,
    env: { SWITCHYARD_REDIS_URL: awayFirst(store.url) },
  });
});

after(async () => {
  await cluster?.stop();
  await models?.remove();
  await farm?.[Symbol.asyncDispose]();
});

const masterOf = (tag: string): RedisNodeProcess => store.nodes[Math.floor(slotOf(keys.base(tag)) / Math.ceil(16_384 / 3))]!;

async function tagsByModel(): Promise<Map<string, string>> {
  const { items } = (await call(`${cluster.url}/v1/models`)).json() as { items: { name: string; versions?: unknown }[] };
  assert.equal(items.length, names.length);
  const tags = new Map<string, string>();
  for (const name of names) {
    const { id } = (await call(`${cluster.url}/v1/jobs`, { body: { model: name, inputs } })).json();
    tags.set(name, String(id).slice(0, 10));
  }
  return tags;
}

test("models whose queues lie on different masters are inferred from, by either coordinator, many at once", async (t) => {
  const tags = await tagsByModel();
  const places = [...tags].map(([name, tag]) => `${name} ${tag} slot ${slotOf(keys.base(tag))} ${masterOf(tag).name}`);
  for (const place of places) t.diagnostic(place);
  assert.equal(new Set([...tags.values()].map((tag) => masterOf(tag).name)).size, 3, "every master has a queue");
  const answers = await Promise.all(
    Array.from({ length: 180 }, (_, at) =>
      call(`${cluster.urls[at % 2]}/v2/models/${names[at % names.length]}/infer`, { body: { inputs } }),
    ),
  );
  for (const answer of answers) assert.equal(answer.status, 200, `${answer.bytes}\n${cluster.log()}`);
  // the first of a model may be a ticket of the cold queue, under which its host went on; one that has rested wants another
  await until("every master to carry tickets", async () => {
    await Promise.all(names.map((name) => call(`${cluster.url}/v2/models/${name}/infer`, { body: { inputs } })));
    const held = await Promise.all(store.nodes.map(({ port }) => ask(port, (redis) => redis.keys("sy:bull:*"))));
    await sleep(100);
    return held.every((found) => found.length > 0);
  });
});

test("jobs of all masters are listed newest first, page by page, and outputs of several are read at once", async () => {
  const submitted = await Promise.all(
    Array.from({ length: 60 }, (_, at) => call(`${cluster.urls[at % 2]}/v1/jobs`, { body: { model: names[at % names.length], inputs } })),
  );
  const ids = submitted.map((answer) => answer.json().id as string);
  const views = await Promise.all(ids.map((id) => jobView(cluster.url, id, 20)));
  for (const view of views) assert.equal(view.state, "succeeded");
  const results = await Promise.all(ids.map((id) => call(`${cluster.url}/v1/jobs/${id}/result`)));
  for (const result of results) assert.equal(result.status, 200, result.bytes.toString());
  const listed: { id: string; created_at: string }[] = [];
  let next: string | undefined = "/v1/jobs?limit=25";
  while (next) {
    const page: { items: typeof listed; links?: { next?: string } } = (await call(`${cluster.url}${next}`)).json();
    listed.push(...page.items);
    next = page.links?.next;
  }
  const found = new Set(listed.map(({ id }) => id));
  for (const id of ids) assert.ok(found.has(id), `${id} is not listed`);
  assert.deepEqual(
    listed.map(({ created_at }) => created_at),
    listed
      .map(({ created_at }) => created_at)
      .sort()
      .reverse(),
  );
});

test("connections that its masters end, again and again, cost nobody an answer and are no trouble of the store", async () => {
  const connection = new RedisConnection(store.url, "ended", systemClock);
  const killers = store.nodes.map(({ port }) => new Redis({ port }));
  const endOwn = async (killer: Redis): Promise<number> => {
    const clients = String(await killer.client("LIST")).split("\n");
    const own = clients.filter((line) => line.includes(" name=ended ")).map((line) => /^id=(\d+)/.exec(line)![1]!);
    return (await Promise.all(own.map((id) => killer.client("KILL", "ID", id)))).length;
  };
  try {
    await connection.open();
    const health: boolean[] = [];
    connection.onHealth((answering) => health.push(answering));
    let ended = 0;
    for (let round = 0; round < 10; round++) {
      const write = (at: number) =>
        connection.sendAll([
          ["set", `ended-${at}`, `${round}`],
          ["get", `ended-${at}`],
          ["mget", ...names.map((_, other) => `ended-${other}`)],
        ]);
      const kills = Promise.all(killers.map(endOwn));
      let over = false;
      void kills.finally(() => {
        over = true;
      });
      while (!over)
        for (const [, value] of await Promise.all(Array.from({ length: 20 }, (_, at) => write(at)))) assert.equal(value, `${round}`);
      ended += (await kills).reduce((sum, one) => sum + one, 0);
      for (const [, value] of await Promise.all(Array.from({ length: 20 }, (_, at) => write(at)))) assert.equal(value, `${round}`);
    }
    assert.ok(ended >= 30, `${ended}`);
    assert.deepEqual(health, []);
  } finally {
    for (const killer of killers) killer.disconnect();
    await connection.close();
  }
});

test("doctor says of each master what it says of a single server", async (t) => {
  const config = readConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: store.url } });
  const findings = await storeFindings(config, undefined);
  assert.deepEqual(
    findings.filter(({ state, subject }) => state !== "ok" && subject !== "replicas"),
    [],
  );
  assert.match(findings[0]!.found, /a cluster of 3 masters/);
  assert.equal(findings.filter(({ subject }) => subject === "clock").length, 3);
  t.diagnostic(findings.map(({ subject, found }) => `${subject}: ${found}`).join("; "));
});

test("a write to a master that has handed its slot over is sent to the one that has it now, and one that is half-way is refused", async () => {
  const connection = new RedisConnection(store.url, "moving", systemClock);
  await connection.open();
  const opened = new Set<string>();
  const open = (node: { host: string; port: number }) => {
    opened.add(nodeText(node));
    const redis = new Redis({ ...node, protocol: 2, lazyConnect: true, enableOfflineQueue: false, maxRetriesPerRequest: 0 });
    redis.on("error", () => {});
    const client = redis as unknown as WireClient;
    const send = (commands: readonly RedisCommand[]) => sendOnWire(client, commands);
    return { client, send, connect: () => redis.connect(), close: () => redis.disconnect() };
  };
  const wire = new ClusterWire({ seeds: [{ host: "127.0.0.1", port: store.nodes[2]!.port }], open });
  await wire.connect();
  assert.equal(opened.size, 3);
  const tag = queueTag("moved", "away");
  const slot = slotOf(keys.base(tag));
  const from = masterOf(tag);
  const to = store.nodes.find((node) => node !== from)!;
  const idOf = (port: number): Promise<unknown> => ask(port, (redis) => redis.call("CLUSTER", "MYID"));
  const hand = async (id: unknown): Promise<void> => {
    for (const { port } of store.nodes) await ask(port, (redis) => redis.call("CLUSTER", "SETSLOT", slot, "NODE", String(id)));
  };
  await hand(await idOf(to.port));
  const key = `${keys.base(tag)}probe`;
  const other = `sy:{${queueTag("stays", "here")}}:probe`;
  const replies = await wire.send([["set", key, "1"], ["set", other, "2"], ["mget", key, other, `${key}-missing`], ["time"]]);
  assert.deepEqual(replies.slice(0, 2).map(String), ["OK", "OK"]);
  assert.deepEqual(
    (replies[2] as unknown[]).map((value) => (value === null ? null : String(value))),
    ["1", "2", null],
  );
  assert.deepEqual(await connection.bytes([key, other]).then((values) => values.map(String)), ["1", "2"]);
  await connection.sendAll([["del", key]]);
  await hand(await idOf(from.port));
  await until("the way back", async () => (await connection.sendAll([["get", key]]).catch(() => [0]))[0] === null);
  wire.close();

  // half-way: the slot's keys may be on either side, and a script that names one of them could not see the others
  const setSlot = (node: RedisNodeProcess, ...words: string[]) =>
    ask(node.port, (redis) => redis.call("CLUSTER", "SETSLOT", slot, ...words));
  await setSlot(to, "IMPORTING", String(await idOf(from.port)));
  await setSlot(from, "MIGRATING", String(await idOf(to.port)));
  await assert.rejects(connection.run("sweep", keys.base(tag), [tag, 1, 1, 0]), { code: "store_unavailable" });
  for (const node of [from, to]) await setSlot(node, "STABLE");
  assert.ok(Array.isArray(await connection.run("sweep", keys.base(tag), [tag, 1, 1, 0])));
  await connection.close();
});

test("a master that freezes is told in time, and what lies on it is served when it is back", async (t) => {
  const tags = await tagsByModel();
  const victim = masterOf(tags.get(names[0]!)!);
  const here = names[0]!;
  const infer = (name: string) => call(`${cluster.url}/v2/models/${name}/infer`, { body: { inputs } });
  victim.signal("SIGSTOP");
  const answers = await Promise.all(Array.from({ length: 6 }, () => infer(here)));
  for (const { status, tookMs } of answers) {
    assert.equal(status, 503);
    assert.ok(tookMs < 4_000, `told after ${tookMs} ms`);
  }
  await until("readiness to go red", async () => (await call(`${cluster.url}/readyz`)).status === 503);
  await sleep(500);
  victim.signal("SIGCONT");
  const backMs = performance.now();
  await until("inference on it to work again", async () => (await infer(here)).status === 200, {
    show: () => cluster.log(),
  });
  t.diagnostic(`served ${(performance.now() - backMs).toFixed(0)} ms after it was back`);
  await until("readiness to return", async () => (await call(`${cluster.url}/readyz`)).status === 200);
  for (const name of names) assert.equal((await infer(name)).status, 200);
});
