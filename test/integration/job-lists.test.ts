/** Lists over many queues: complete, in order, and in small steps on the connection that they share with hot calls. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keys, newJobId, queueTag, type RedisCommand } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { listJobs } from "../../coordinator/src/adapters/redis-job-list.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { JobListFilter } from "../../coordinator/src/ports/job-store.ts";
import { isAccepted, newJob, roomyQueue } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let connection: RedisConnection;
const writes: RedisCommand[][] = [];
before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  connection = new RedisConnection(server.url, "lists", systemClock);
  await connection.open();
  for (const name of ["sendAll", "sendAllRaw"] as const) {
    const send = connection[name].bind(connection) as (commands: readonly RedisCommand[]) => Promise<never>;
    connection[name] = (commands: readonly RedisCommand[]) => {
      writes.push([...commands]);
      return send(commands);
    };
  }
});
after(async () => {
  await connection?.close();
  await rigs?.close();
  await server?.stop();
});

const tags = Array.from({ length: 2_000 }, (_, at) => queueTag("many", `digest-${at}`));

/** Jobs of some queues, many in the same millisecond, some held; as the list must tell them. */
async function admitSome(): Promise<{ id: string; createdMs: number }[]> {
  const { store } = rigs.rig();
  const jobs: { id: string; createdMs: number }[] = [];
  for (let round = 0; round < 12; round++) {
    // one queue has most of the jobs, others one now and then
    const own = [...Array.from({ length: 40 }, () => 3), ...Array.from({ length: 30 }, (_, at) => (at * 61 + round * 7) % 1_900)];
    const admitted = await Promise.all(own.map((at) => store.admit(newJob(tags[at]!, { held: at % 5 === 0 }), roomyQueue)));
    jobs.push(...admitted.filter(isAccepted).map(({ id, createdMs }) => ({ id, createdMs })));
    await new Promise((resolve) => setTimeout(resolve, round % 3));
  }
  return jobs.sort((a, b) => b.createdMs - a.createdMs || (a.id < b.id ? 1 : -1));
}

test("pages over two thousand queues tell every job once, newest first, whatever the page's size", async () => {
  const jobs = await admitSome();
  assert.ok(new Set(jobs.map(({ createdMs }) => createdMs)).size < jobs.length / 4, "many jobs share a millisecond");
  for (const limit of [13, 50, 200]) {
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await listJobs(connection, tags, cursor ? { limit, cursor } : { limit });
      seen.push(...page.jobs.map(({ id }) => id));
      cursor = page.cursor;
    } while (cursor);
    assert.deepEqual(
      seen,
      jobs.map(({ id }) => id),
    );
  }
  const { createdMs } = jobs[300]!;
  const since = await listJobs(connection, tags, { limit: 1_000, createdAfterMs: createdMs });
  assert.deepEqual(
    since.jobs.map(({ id }) => id),
    jobs.filter((job) => job.createdMs > createdMs).map(({ id }) => id),
  );
  writes.length = 0;
  const before = await listJobs(connection, tags, { limit: 1_000, createdBeforeMs: createdMs });
  assert.deepEqual(
    before.jobs.map(({ id }) => id),
    jobs.filter((job) => job.createdMs < createdMs).map(({ id }) => id),
  );
  const looked = writes.flat().filter(([command]) => command === "get").length;
  assert.equal(looked, before.jobs.length, "what is younger is not read");
});

test("a filter that matches nothing asks empty queues once, a queue in stretches, and sends little at a time", async () => {
  const { redis } = rigs;
  for (let at = 0; at < 40; at++) {
    const tag = tags[at * 50]!;
    const entries = Array.from({ length: 400 }, (_, entry) => [1_700_000_000_000 + entry * 40 + at, newJobId(tag)] as const);
    await redis.zadd(`${keys.base(tag)}index`, ...entries.flat());
  }
  writes.length = 0;
  const filter: JobListFilter = { limit: 50, tag: "nobody" };
  const { jobs, cursor } = await listJobs(connection, tags, filter);
  assert.deepEqual(jobs, []);
  assert.ok(cursor, "it stops after ten thousand entries and says where");
  assert.ok(Math.max(...writes.map((write) => write.length)) <= 500);
  const count = (name: string) => writes.flat().filter(([command]) => command === name).length;
  assert.equal(count("exists"), 2_000);
  assert.ok(count("zrevrangebyscore") < 4_000, `${count("zrevrangebyscore")} stretches were read`);
  assert.equal(count("get"), 10_000);
});
