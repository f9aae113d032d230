/** The waits themselves, on the adapter: WAITAOF on a Valkey that has it, and a store that hides what it is. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DurableTier } from "@switchyard/protocol";
import { keys, newJobId, queueTag, tagOf } from "@switchyard/protocol/redis";
import { type Offers, offersOf } from "../../coordinator/src/adapters/durability-offers.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisDurability, storeOffers } from "../../coordinator/src/adapters/redis-durability.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { setting, tell, valkeyBinary } from "../support/durable-stores.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

const nothing = { why: "it is not asked for here", fix: "nothing" };
/** A server whose own word is not believed, used for how it waits. */
const byWaitAof = async (): Promise<Offers> => ({ fsync: { by: "waitaof" }, replicated: nothing });

async function connected(t: TestContext, url: string): Promise<RedisConnection> {
  const redis = new RedisConnection(url, "durable-waits", systemClock);
  await redis.open();
  t.after(() => redis.close());
  return redis;
}

async function durable(t: TestContext, server: TestRedis, ask: (redis: RedisConnection) => Promise<Offers>) {
  const redis = await connected(t, server.url);
  const store = new RedisDurability({ redis, target: server.url, clock: systemClock, ask });
  t.after(() => store.close());
  return store;
}

/** Nothing while the disk is so busy that a sync takes longer than anybody is kept waiting. */
const settledNow = (store: RedisDurability, id: string) =>
  store.settled(id, "fsync").catch((error) => (error.code === "store_unavailable" ? undefined : Promise.reject(error)));

const tag = queueTag("waits", randomBytes(8).toString("hex"));

/** A job of the tier, as its record stands in the store. */
async function written(server: TestRedis, tier: DurableTier): Promise<string> {
  const id = newJobId(tag);
  const record = `queued 1 - k60000 9 0 0 0 0 0 - - 1 standard:default 5 1 3 0 x {"m":"m","v":1,"d":"${tier}"}`;
  await tell(server, "SET", `${keys.base(tagOf(id))}job:${id}`, record);
  return id;
}

test("jobs that ask for WAITAOF wait together, hear what stands in the store, and are told within the time when nobody syncs", async (t) => {
  const binary = await valkeyBinary();
  if (typeof binary === "string") return t.skip(binary);
  const server = await startTestRedis({ binary });
  t.after(() => server.stop());
  const store = await durable(t, server, byWaitAof);
  const waits = async () => Number(/cmdstat_waitaof:calls=(\d+)/.exec(String(await tell(server, "INFO", "commandstats")))?.[1] ?? 0);
  const id = await written(server, "fsync");
  const asked: Promise<unknown>[] = [];
  const startMs = performance.now();
  for (let at = 0; at < 300; at++) {
    asked.push(until("the sync", () => settledNow(store, id)));
    if (at % 10 === 9) await sleep(40); // spread over more than one sync
  }
  for (const found of await Promise.all(asked)) {
    const { state, durability } = found as { state: string; durability: string };
    assert.deepEqual([state, durability], ["queued", "fsync"]);
  }
  t.diagnostic(`300 jobs in ${(performance.now() - startMs).toFixed(0)} ms by ${await waits()} waits`);
  assert.ok((await waits()) >= 1 && (await waits()) < 100, `${await waits()} waits`);
  assert.equal(await store.settled(newJobId(tag), "fsync"), undefined);

  await setting(server, "appendfsync", "no");
  const told: number[] = [];
  const late = await Promise.allSettled(
    Array.from({ length: 40 }, async (_, at) => {
      await sleep(8 * at);
      const fromMs = performance.now();
      await store.settled(id, "fsync").finally(() => told.push(performance.now() - fromMs));
    }),
  );
  // where this machine stands still some are told later, and where they waited for one another nearly all
  const [usualMs, mostMs] = [told.sort((left, right) => left - right)[20]!, Math.max(...told)];
  assert.ok(usualMs < 2_500 && mostMs < 6_000, `told after ${usualMs.toFixed(0)} ms, at most ${mostMs.toFixed(0)} ms`);
  for (const one of late) {
    assert.ok(one.status === "rejected");
    assert.equal(one.reason.code, "store_unavailable");
    assert.equal(one.reason.facts.jobId, id);
    assert.match(one.reason.message, /safe on its disk/);
  }
});

test("a Valkey that syncs every second is not believed, one that syncs with every write is", async (t) => {
  const binary = await valkeyBinary();
  if (typeof binary === "string") return t.skip(binary);
  const server = await startTestRedis({ binary });
  t.after(() => server.stop());
  const store = await durable(t, server, storeOffers);
  await assert.rejects(store.require("fsync"), {
    code: "durability_unavailable",
    message: /Valkey .* has no WAITAOF that waits.*everysec/,
  });
  await setting(server, "appendfsync", "always");
  // what it offers is asked for once a second
  await until("fsync to be offered", () =>
    store.require("fsync").then(
      () => true,
      (error) => error.code !== "durability_unavailable" && Promise.reject(error),
    ),
  );
  const id = await written(server, "fsync");
  assert.equal(((await store.settled(id, "fsync")) as { id: string }).id, id);
  await setting(server, "no-appendfsync-on-rewrite", "yes");
  await assert.rejects(store.settled(id, "fsync"), { code: "store_unavailable", message: /no-appendfsync-on-rewrite is yes/ });
});

test("a store that refuses CONFIG GET, INFO or WAIT to its user offers nothing that rests on them, and says so", async (t) => {
  const server = await startTestRedis();
  t.after(() => server.stop());
  await setting(server, "appendfsync", "always");
  const offersTo = async (...rights: string[]): Promise<Offers> => {
    const name = `user-${randomBytes(4).toString("hex")}`;
    await tell(server, "ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all", ...rights);
    const { host } = new URL(server.url);
    const redis = new RedisConnection(`redis://${name}:secret@${host}`, "durable-waits", systemClock);
    try {
      await redis.connect();
      return await storeOffers(redis);
    } finally {
      await redis.close();
    }
  };
  assert.deepEqual((await offersTo()).fsync, { by: "always" });
  const hidden = (await offersTo("-config")).fsync;
  assert.match("why" in hidden ? hidden.why : "", /does not tell its settings/);
  assert.match(JSON.stringify((await offersTo("-wait")).replicated), /refuses WAIT/);
  assert.deepEqual(offersOf({ info: "aof_enabled:1", settings: new Map(), wait: 0, waitAof: new Error("ERR unknown command") }).fsync, {
    why: "the store, Redis , has no WAITAOF that waits for the sync (Redis 8.0 or newer has), and appendonly is not told",
    fix: "CONFIG SET appendonly yes appendfsync always no-appendfsync-on-rewrite no",
  });
});

test("a server that has become a replica settles nothing", async (t) => {
  const server = await startTestRedis();
  t.after(() => server.stop());
  const store = await durable(t, server, async () => ({ fsync: { by: "always" }, replicated: { by: "wait" } }));
  const id = await written(server, "replicated");
  await setting(server, "appendfsync", "always");
  assert.ok(await store.settled(id, "fsync"));
  await tell(server, "REPLICAOF", "127.0.0.1", 1);
  await assert.rejects(store.settled(id, "fsync"), { code: "store_unavailable" });
  await tell(server, "REPLICAOF", "NO", "ONE");
  assert.ok(await store.settled(id, "fsync"));
});
