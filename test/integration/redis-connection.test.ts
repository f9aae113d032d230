/** How the coordinator's connections behave when Redis is there and says nothing. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { coldQueueName, keys, storeFormat } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { BullmqTickets } from "../../coordinator/src/adapters/bullmq-tickets.ts";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

/** What a busy machine may add; commands that are not refused wait until Redis is back. */
const busyMs = 2_500;

let redis: TestRedis;
before(async () => {
  redis = await startTestRedis();
});
after(() => redis.stop());

test("a Redis that accepts connections and says nothing cannot be used, and that is said within seconds", async () => {
  redis.pause();
  try {
    const connection = new RedisConnection(redis.url, "frozen", systemClock);
    const started = performance.now();
    await assert.rejects(connection.open(), /cannot be used: it did not answer within 5 s\. Start it, or correct SWITCHYARD_REDIS_URL/);
    assert.ok(performance.now() - started < 15_000);
  } finally {
    redis.resume();
  }
});

test("commands in flight when Redis freezes are refused within 2.5 s, and the connection recovers by itself", async () => {
  const connection = new RedisConnection(redis.url, "in-flight", systemClock);
  await connection.open();
  redis.pause();
  const started = performance.now();
  await assert.rejects(connection.sendAll([["get", "x"]]), { code: "store_unavailable" });
  const tookMs = performance.now() - started;
  redis.resume();
  assert.ok(tookMs < 2_500 + busyMs, `refused after ${tookMs} ms`);
  await until("the connection answers", async () => connection.health().answering);
  assert.deepEqual(await connection.sendAll([["get", "x"]]), [null]);
  await connection.close();
});

test("the store's time that is asked for is right when this machine's clock has just been set", async (t) => {
  let offMs = 0;
  const connection = new RedisConnection(redis.url, "set", { ...systemClock, nowMs: () => systemClock.nowMs() + offMs });
  t.after(() => connection.close());
  await connection.open();
  offMs = 86_400_000;
  const askedMs = await connection.askedNowMs();
  assert.ok(Math.abs(askedMs - systemClock.nowMs()) < busyMs, `${askedMs}`);
});

test("a ticket queue whose first offer failed is offered to once Redis is back", async () => {
  const offered: boolean[] = [];
  const metrics = { ...prometheusMetrics({ version: "0", processMetrics: false }), ticketOffered: (ok: boolean) => void offered.push(ok) };
  const tickets = new BullmqTickets({ url: redis.url, routeOf: () => ({ warm: false }), metrics });
  await redis.kill();
  tickets.offer("aaaaaaaaaa", "aaaaaaaaaa-t1");
  await until("the first offer failed", async () => offered.length > 0);
  assert.ok(!offered.includes(true));
  await redis.restart();
  await until("an offer is accepted", async () => {
    tickets.offer("aaaaaaaaaa", "aaaaaaaaaa-t1");
    return offered.includes(true);
  });
  const direct = new Redis(redis.url);
  assert.equal(await direct.exists(`sy:bull:${coldQueueName()}:aaaaaaaaaa-t1`), 1);
  direct.disconnect();
  await tickets.close();
});

test("a Redis whose jobs are laid out otherwise is refused at start, in words, and is left as it was", async () => {
  const client = new Redis(redis.url);
  try {
    await client.flushall();
    await client.hset(keys.models, "old@1", "{}");
    const open = () => new RedisConnection(redis.url, "layout", systemClock).open();
    await assert.rejects(open(), /holds jobs in layout 1, and this version reads layout 2\. Let the other version finish them/);
    assert.equal(await client.exists(keys.format), 0);
    await client.set(keys.format, "3");
    await assert.rejects(open(), /holds jobs in layout 3/);
    await client.flushall();
    const connection = new RedisConnection(redis.url, "layout", systemClock);
    await connection.open();
    await connection.close();
    assert.equal(await client.get(keys.format), storeFormat);
  } finally {
    client.disconnect();
  }
});

test("connections that Redis ends, again and again, cost nobody an answer and are no trouble of the store", async () => {
  const connection = new RedisConnection(redis.url, "ended", systemClock);
  const killer = new Redis(redis.url);
  try {
    await connection.open();
    const health: boolean[] = [];
    connection.onHealth((answering) => health.push(answering));
    for (let round = 0; round < 10; round++) {
      const write = (at: number) =>
        connection.sendAll([
          ["set", `ended-${at}`, `${round}`],
          ["get", `ended-${at}`],
        ]);
      const killed = killer.call("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES");
      const before = await Promise.all(Array.from({ length: 20 }, (_, at) => write(at)));
      assert.ok(Number(await killed) >= 1);
      const after = await Promise.all(Array.from({ length: 20 }, (_, at) => write(at)));
      for (const [, value] of [...before, ...after]) assert.equal(value, `${round}`);
    }
    assert.deepEqual(health, []);
  } finally {
    killer.disconnect();
    await connection.close();
  }
});
