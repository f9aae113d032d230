/** A host's exchange with a real Redis: how much it takes, and each part told apart where the store is full or a script fails. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { channels, keys, newIncarnation } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { wireConnection } from "../../worker/src/redis-connection.ts";
import { type ClaimAnswer, Claims, type ClaimWish, type Commit, heardOf } from "../../worker/src/runner/claims.ts";
import { eventually, type JobRig, unforeseen } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";
import { until } from "../support/until.ts";

type Batch = Extract<ClaimAnswer, { kind: "batch" }>;

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
    queues.push({ rig, wish: { tag: rig.tag, ticketId, maxItems: 4, busyMs: 30_000, lingerMs: 50, ...unforeseen } });
  }
  const [{ rig: busy, wish: first }, { wish }] = queues as [(typeof queues)[0], (typeof queues)[0]];
  const { claim } = await claims.exchange(undefined, first);
  assert.ok(claim?.kind === "batch");
  const results = claim.jobs.map(({ id, fence }) => ({
    id,
    fence,
    outcome: "succeeded" as const,
    outputs: Buffer.alloc(2_000), // too large for the record
    ttlMs: 60_000,
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

test("a host that looks again without the commit of its last claim is told which one is open, and gives it back", async () => {
  const { claims, commit, wish } = await busyHost();
  const { tag, ticketId } = commit;
  const again = { ...wish, tag, ticketId };
  assert.deepEqual((await claims.exchange(undefined, again)).claim, { kind: "uncommitted", sequence: 1 });
  assert.deepEqual([await claims.giveBack(tag, 1), await claims.giveBack(tag, 1)], [1, 0]);
  const { claim } = await claims.exchange(undefined, again);
  assert.ok(claim?.kind === "batch");
  assert.deepEqual([claim.sequence, claim.jobs[0]?.fence, claim.jobs[0]?.attempt], [2, 2, 1], "it had cost no attempt");
  assert.deepEqual((await claims.exchange(commit, undefined)).committed, ["stale"]);
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

/** A host that claims four of the jobs of one queue at a time, or so many; their inputs hold their numbers. */
async function readingHost(waiting: number, redis: Redis, how: { inputBytes?: number; maxItems?: number } = {}) {
  const rig = rigs.rig();
  const input = new Map<string, string>();
  for (let number = 0; number < waiting; number++) {
    const bytes = Buffer.from(`input ${number}`.padEnd(how.inputBytes ?? 0));
    input.set(await rig.admit({ inputs: [bytes] }), bytes.toString());
  }
  const incarnation = newIncarnation();
  const claims = new Claims({ redis, incarnation, hostId: "host-1" });
  const ticketId = rig.offered[0] as string;
  assert.equal(await rig.side.take({ tag: rig.tag, incarnation, ticketId }), "held");
  const wish = { tag: rig.tag, ticketId, maxItems: how.maxItems ?? 4, busyMs: 30_000, lingerMs: 50, ...unforeseen };
  const next = async (last?: Batch): Promise<Batch | undefined> => {
    const results = last?.jobs.map(({ id, fence }) => ({ id, fence, outcome: "succeeded" as const, outputs: Buffer.of(1), ttlMs: 60_000 }));
    const commit = results && { tag: rig.tag, ticketId, runMs: 1, batchItems: 1, results };
    const { claim } = await claims.exchange(commit, wish);
    if (claim?.kind !== "batch") return undefined;
    const inputs = claim.inputs ?? (await claims.inputs(rig.tag, claim.jobs));
    assert.deepEqual(
      inputs.map((bytes) => bytes?.toString()),
      claim.jobs.map(({ id }) => input.get(id)),
    );
    return claim;
  };
  const listed = (): Promise<string[]> => rigs.redis.lrange(keys.batch(rig.tag, incarnation), 0, -1);
  return { claims, incarnation, input, rig, wish, next, listed };
}

test("inputs of batches come with the claim, in the order of its jobs, as soon as they had to be asked for", async () => {
  const { next, listed } = await readingHost(10, wire);
  const first = await next();
  assert.deepEqual([first?.jobs.length, first?.inputs], [4, undefined]);
  const second = await next(first);
  assert.deepEqual([second?.jobs.length, second?.inputs?.length], [4, 4]);
  assert.deepEqual(
    await listed(),
    second!.jobs.map(({ id }) => id),
  );
  const third = await next(second);
  assert.deepEqual([third?.inputs?.length, await listed()], [2, []], "few come within the answer itself");
  assert.equal(await next(third), undefined);
});

test("single jobs whose inputs are too large for the answer are listed, too", async () => {
  const { next, listed } = await readingHost(3, wire, { inputBytes: 20_000, maxItems: 1 });
  const second = await next(await next());
  assert.deepEqual([second?.jobs.length, second?.inputs?.length], [1, 1]);
  assert.deepEqual(await listed(), [second!.jobs[0]!.id]);
});

test("a batch of large inputs is known to be in hand before they come", async () => {
  const { claims, next, listed, wish } = await readingHost(12, wire, { inputBytes: 100_000 });
  const second = await next(await next());
  assert.deepEqual([second?.jobs.length, second?.inputs?.length, await listed()], [4, undefined, []]);
  // nor where they were small until then
  await claims.inputs(wish.tag, second!.jobs.slice(0, 1));
  const third = await next(second);
  assert.deepEqual([third?.jobs.length, third?.inputs?.length, await listed()], [4, undefined, []]);
});

test("a claim whose answer was lost is answered as it was, and no other batch's inputs with it", async () => {
  const { claims, wish, next, listed } = await readingHost(12, wire);
  const second = await next(await next());
  assert.ok(second);
  const results = second.jobs.map(({ id, fence }) => ({ id, fence, outcome: "succeeded" as const, outputs: Buffer.of(1), ttlMs: 60_000 }));
  const commit = { tag: wish.tag, ticketId: wish.ticketId, runMs: 1, batchItems: 1, results };
  const before = await listed();
  const cut = claims.exchange(commit, wish);
  wire.stream.destroy();
  assert.deepEqual(await cut, {});
  const taken = await until("the claim to have happened", async () => {
    const ids = await listed();
    return ids.length > 0 && ids[0] !== before[0] ? ids : undefined;
  });
  await until("the connection to be there again", async () => wire.status === "ready");
  const { claim } = await claims.exchange(commit, wish);
  assert.ok(claim?.kind === "batch");
  assert.deepEqual([claim.jobs.map(({ id }) => id), claim.inputs, await listed()], [taken, undefined, []]);
});

test("where reading by a list is refused, inputs are asked for by their names", async () => {
  await rigs.redis.call("ACL", "SETUSER", "default", "-sort_ro");
  try {
    const { next, listed, claims, wish } = await readingHost(12, wire);
    const second = await next(await next());
    assert.deepEqual([second?.jobs.length, second?.inputs], [4, undefined]);
    assert.equal((await claims.inputs(wish.tag, second!.jobs)).filter(Boolean).length, 4);
    const third = await next(second);
    assert.deepEqual([third?.jobs.length, third?.inputs], [4, undefined]);
    assert.deepEqual(
      await listed(),
      second!.jobs.map(({ id }) => id),
      "and it is not tried again",
    );
  } finally {
    await rigs.redis.call("ACL", "SETUSER", "default", "+sort_ro");
  }
});

test("a user of its own does not ask for what it may not name", async () => {
  await rigs.redis.call("ACL", "LOG", "RESET");
  await rigs.redis.call("ACL", "SETUSER", "narrow", "on", "nopass", "~sy:*", "&sy:*", "+@all");
  const narrow = wireConnection(server.url.replace("redis://", "redis://narrow:none@"), "narrow") as Redis;
  try {
    await once(narrow, "ready");
    const { next, listed, claims, wish } = await readingHost(8, narrow);
    const second = await next(await next());
    assert.deepEqual([second?.jobs.length, second?.inputs, await listed()], [4, undefined, []]);
    assert.equal((await claims.inputs(wish.tag, second!.jobs)).filter(Boolean).length, 4);
    assert.deepEqual(await rigs.redis.call("ACL", "LOG"), []);
  } finally {
    narrow.disconnect();
  }
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
    const wish = { tag: rig.tag, ticketId, maxItems: 64, busyMs: 30_000, lingerMs: 50, ...unforeseen, parts: 2 as const };
    const { claim } = await claims.exchange(undefined, wish);
    assert.equal(claim?.kind === "batch" && claim.jobs.length, taken, `of ${waiting}`);
  }
});

test("what is handed over to a host that lingers is what its next claim would have answered", async () => {
  const { claims, incarnation, input, next, rig, wish } = await readingHost(1, wire);
  const messages: Buffer[] = [];
  const listener = rigs.connection("listener");
  listener.on("messageBuffer", (_channel: Buffer, message: Buffer) => messages.push(message));
  await listener.subscribe(channels.wake(incarnation));
  Object.assign(wish, { busyMs: 700.5, handedWithinMs: 9.5, lingerMs: 30_000 });
  const first = await next();
  assert.equal(await next(first), undefined);
  const entry = await rigs.redis.hget(`${keys.base(rig.tag)}tickets`, wish.ticketId);
  assert.match(entry ?? "", new RegExp(`^lingering ${incarnation} \\d+ 2 host-1 701 4 10 -$`));
  const bytes = Buffer.from("a line\nand another");
  const id = await rig.admit({ inputs: [bytes] });
  input.set(id, bytes.toString());
  await eventually("the host hears of it", () => messages.length > 0);
  const { handed, tag } = heardOf(messages[0]!);
  assert.deepEqual([tag, handed?.ticketId, handed?.batch.inputs], [rig.tag, wish.ticketId, [bytes]]);
  assert.deepEqual([claims.accepts(handed!), claims.accepts(handed!)], [true, false], "once");
  assert.equal(await next({ ...handed!.batch }), undefined);
  assert.equal((await rig.record(id)).state, "succeeded");
  // unheard of, the next claim answers it
  const second = await rig.admit({ inputs: [bytes] });
  input.set(second, bytes.toString());
  const found = await next();
  assert.deepEqual([found?.jobs.map((job) => job.id), found?.sequence], [[second], 3]);
  await eventually("the message comes, too", () => messages.length > 1);
  assert.equal(claims.accepts(heardOf(messages[1]!).handed!), false);
  assert.deepEqual(heardOf(Buffer.from(rig.tag)), { tag: rig.tag }, "a wake-up");
});
