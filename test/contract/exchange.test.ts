/** A host's exchange with a real Redis: how much it takes, and each part told apart where the store is full or a script fails. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { keys, newIncarnation } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { wireConnection } from "../../worker/src/redis-connection.ts";
import { Claims, type ClaimWish, type Commit } from "../../worker/src/runner/claims.ts";
import { type JobRig, unforeseen } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let wire: Redis;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  wire = wireConnection(server.url, "runner") as Redis;
  await once(wire, "ready");
});

after(async () => {
  wire?.disconnect();
  await rigs?.close();
  await server?.stop();
});

/** A host that runs one job of one queue and may look into another. */
async function busyHost(): Promise<{ claims: Claims; commit: Commit; wish: ClaimWish; busy: JobRig }> {
  const incarnation = newIncarnation();
  const claims = new Claims({ redis: wire, incarnation, hostId: "host-1" });
  const queues: { rig: JobRig; wish: ClaimWish }[] = [];
  for (let at = 0; at < 2; at++) {
    const rig = rigs.rig();
    await rig.admit();
    const ticketId = rig.offered[0] as string;
    assert.equal(await rig.side.take({ tag: rig.tag, incarnation, ticketId }), "held");
    queues.push({ rig, wish: { tag: rig.tag, ticketId, maxItems: 4, busyMs: 100, lingerMs: 50, ...unforeseen } });
  }
  const [{ rig: busy, wish: first }, { wish }] = queues as [(typeof queues)[0], (typeof queues)[0]];
  const { claim } = await claims.exchange(undefined, first);
  assert.ok(claim?.kind === "batch");
  const results = claim.jobs.map(({ id, fence }) => ({
    id,
    fence,
    outcome: "succeeded" as const,
    outputs: Buffer.alloc(2_000), // too large for the record
    ttlMs: 1_000,
  }));
  return { claims, busy, wish, commit: { tag: busy.tag, ticketId: first.ticketId, runMs: 1, batchItems: 1, results } };
}

test("outputs that a full store refuses are told per job, and the claim in the same write is answered", async () => {
  const { claims, commit, wish } = await busyHost();
  await rigs.redis.config("SET", "maxmemory", "1mb");
  try {
    const answer = await claims.exchange(commit, wish);
    assert.deepEqual([answer.committed, answer.claim?.kind], [["no_output"], "batch"]);
    assert.deepEqual([answer.commitRefused, answer.claimRefused], [undefined, undefined]);
  } finally {
    await rigs.redis.config("SET", "maxmemory", String(1024 ** 3));
  }
  assert.deepEqual(await claims.exchange(commit, undefined), { committed: ["committed"] });
});

test("a script that fails is told from one that was not heard", async () => {
  const { claims, commit, wish, busy } = await busyHost();
  const claimsKey = `${keys.base(busy.tag)}claims`;
  await rigs.redis.del(claimsKey);
  await rigs.redis.set(claimsKey, "no hash");
  const answer = await claims.exchange(commit, wish);
  assert.match(answer.commitRefused?.message ?? "", /WRONGTYPE/);
  assert.deepEqual([answer.committed, answer.claim?.kind], [undefined, "batch"]);
  const failing = await claims.exchange(undefined, { ...wish, tag: busy.tag, ticketId: commit.ticketId });
  assert.match(failing.claimRefused?.message ?? "", /WRONGTYPE/);
});

test("a connection that breaks in mid-exchange answers nothing, and the repeat finds what had happened", async () => {
  const { claims, commit, wish } = await busyHost();
  const cut = claims.exchange(commit, wish);
  wire.stream.destroy();
  assert.deepEqual(await cut, {});
  await assert.rejects(claims.exchange(commit, wish), /not ready/);
  await once(wire, "ready");
  const answer = await claims.exchange(commit, wish);
  assert.match(answer.committed?.[0] ?? "", /^(committed|ended)$/);
  assert.equal(answer.claim?.kind, "batch");
});

test("a claim in two parts takes half of what waits, of which 32 jobs are worth a run of their own", async () => {
  for (const [waiting, taken] of [
    [20, 20],
    [50, 32],
    [100, 50],
  ] as const) {
    const rig = rigs.rig();
    await Promise.all(Array.from({ length: waiting }, () => rig.admit()));
    const incarnation = newIncarnation();
    const claims = new Claims({ redis: wire, incarnation, hostId: "host-1" });
    const ticketId = rig.offered[0] as string;
    assert.equal(await rig.side.take({ tag: rig.tag, incarnation, ticketId }), "held");
    const wish = { tag: rig.tag, ticketId, maxItems: 64, busyMs: 100, lingerMs: 50, ...unforeseen, parts: 2 as const };
    const { claim } = await claims.exchange(undefined, wish);
    assert.equal(claim?.kind === "batch" && claim.jobs.length, taken, `of ${waiting}`);
  }
});
