/** Jobs that took hosts down or ran out of attempts: who is to blame, and what stays of them. The same sentences on both stores. */

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { keys } from "@switchyard/protocol/redis";
import { FilesystemBlobs } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { firstPage, type NewJob } from "../../coordinator/src/ports/job-store.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { type HostJob, type JobRig, succeeded, type TestHost, timePasses } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const dayMs = 86_400_000;
const runError = { code: "run_failed", detail: "the run threw", retryable: true };

const rigs = await redisRigs();

/** A new host with a ticket that a sweep gave out. */
async function freshHost(rig: JobRig): Promise<{ host: TestHost; ticket: string }> {
  const swept = await rig.store.sweep(rig.tag, 1, 1);
  const ticket = swept.tickets.at(-1) ?? rig.offered.at(-1);
  const host = rig.host();
  assert.equal(await host.take(ticket!), "held");
  return { host, ticket: ticket! };
}

async function die(rig: JobRig, { incarnation }: TestHost): Promise<void> {
  const { tickets } = await rig.store.takeBack(rig.tag, incarnation, 1, 1);
  for (const one of tickets) rig.offers.offer(rig.tag, one);
}

/** Everything that waits is claimed at once, and its host dies. */
async function dieWithAll(rig: JobRig, maxItems = 16): Promise<HostJob[]> {
  const { host, ticket } = await freshHost(rig);
  const jobs = await host.batch(ticket, { maxItems });
  await die(rig, host);
  return jobs;
}

/** A job that has taken three hosts down. */
async function poison(rig: JobRig, wishes: Partial<NewJob> = {}): Promise<string> {
  const id = await rig.admit(wishes);
  for (let death = 1; death <= 3; death++)
    assert.deepEqual(
      (await dieWithAll(rig)).map((job) => job.id),
      [id],
    );
  return id;
}

async function listed(rig: JobRig, filter: { code?: string; tenant?: string } = {}): Promise<string[]> {
  return (await rig.store.list([rig.tag], { limit: 200, dead: true, ...filter })).jobs.map(({ id }) => id);
}

function sentences(open: () => JobRig): void {
  test("of a batch that took its host down each job is run alone, and only the one to blame is given up", async () => {
    const rig = open();
    const ids: string[] = [];
    for (let at = 0; at < 16; at++) ids.push(await rig.admit({ latestStartMs: at }));
    const guilty = ids[5]!;
    const sizes: number[] = [];
    while ((await rig.store.sweep(rig.tag, 1, 1)).figures.waiting > 0) {
      const { host, ticket } = await freshHost(rig);
      for (let claim = await host.claim(ticket); claim.kind === "batch"; claim = await host.claim(ticket)) {
        sizes.push(claim.jobs.length);
        if (claim.jobs.some(({ id }) => id === guilty)) await die(rig, host);
        else
          await host.commit(
            ticket,
            claim.jobs.map((job) => succeeded(job)),
          );
      }
    }
    const records = await Promise.all(ids.map((id) => rig.record(id)));
    const { state, error, deaths } = records[5]!;
    assert.deepEqual([state, error?.code, deaths], ["failed", "poison", 3]);
    const others = records.filter(({ id }) => id !== guilty);
    assert.deepEqual(
      others.map((record) => [record.state, record.deaths]),
      others.map(() => ["succeeded", 1]),
    );
    assert.deepEqual(sizes, [16, ...Array.from({ length: 17 }, () => 1)]);
    assert.deepEqual(await listed(rig), [guilty]);
  });

  test("jobs that came later are batched as ever, and never with one that is under suspicion", async () => {
    const rig = open();
    const suspects = [await rig.admit({ latestStartMs: 1 }), await rig.admit({ latestStartMs: 10_000 })];
    await dieWithAll(rig);
    const fresh = [await rig.admit({ latestStartMs: 5_000 }), await rig.admit({ latestStartMs: 15_000 })];
    const { host, ticket } = await freshHost(rig);
    const batches: string[][] = [];
    for (let claim = await host.claim(ticket); claim.kind === "batch"; claim = await host.claim(ticket)) {
      batches.push(claim.jobs.map(({ id }) => id));
      await host.commit(
        ticket,
        claim.jobs.map((job) => succeeded(job)),
      );
    }
    assert.deepEqual(batches, [[suspects[0]], fresh, [suspects[1]]]);
  });

  test("a job under suspicion is judged by a run of its own, and waits for no company", async () => {
    const rig = open();
    const suspect = await rig.admit({ latestStartMs: 1, timeoutMs: 8_900 });
    await dieWithAll(rig);
    for (let at = 0; at < 64; at++) await rig.admit({ latestStartMs: 100 + at });
    const { host, ticket } = await freshHost(rig);
    // in a batch of 16, which is what so many are worth, it would be late
    const ladders = new Map([
      [
        0,
        [
          [1, 10],
          [16, 9_000],
        ] as [number, number][],
      ],
    ]);
    assert.deepEqual(
      (await host.batch(ticket, { ladders })).map(({ id }) => id),
      [suspect],
    );

    const lone = open();
    const id = await lone.admit();
    await dieWithAll(lone);
    const seat = await freshHost(lone);
    assert.deepEqual(
      (await seat.host.batch(seat.ticket, { delayMs: 20_000 })).map((job) => job.id),
      [id],
    );
  });

  test("only deaths count against a job: a claim whose reply was lost does not", async () => {
    const rig = open();
    const id = await rig.admit({ maxAttempts: 9 });
    const { host, ticket } = await freshHost(rig);
    for (let sequence = 1; sequence <= 8; sequence += 2) {
      await host.batch(ticket, { sequence });
      assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, sequence), 1);
    }
    await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.deepEqual([(await rig.record(id)).state, (await rig.record(id)).deaths], ["queued", 0]);
  });

  test("a poison job is a dead letter: listed, with its inputs and its terms, for a day", async () => {
    const rig = open();
    const inputs = [Uint8Array.of(1, 2), Uint8Array.of(3)];
    const id = await poison(rig, { inputs, maxAttempts: 7, retryOf: "another" });
    const record = await rig.record(id);
    assert.deepEqual([record.error?.code, record.deaths, record.maxAttempts, record.retryOf], ["poison", 3, 7, "another"]);
    assert.deepEqual([...(await rig.store.inputs(id))!], [1, 2, 3]);
    assert.deepEqual([...(await rig.store.inputsKept([id, "none-such"]))], [id]);
    assert.deepEqual(await listed(rig), [id]);
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).figures.dead, 1);
    const { immortal, jobs } = await rig.audit();
    assert.deepEqual(immortal, []);
    assert.ok(Math.abs(jobs.get(id)!.ttlMs - dayMs) < 10_000, "its record is there as long as its inputs");
  });

  test("a result that is kept for longer than a day is not cut short", async () => {
    const rig = open();
    const id = await poison(rig, { ttlMs: 3 * dayMs });
    assert.ok((await rig.audit()).jobs.get(id)!.ttlMs > 2 * dayMs);
  });

  test("so is a job whose last attempt might have gone well, and no other", async () => {
    const rig = open();
    const outcomes = ["retry", "failed", "succeeded", "late"] as const;
    const ids: string[] = [];
    for (const [at] of outcomes.entries()) ids.push(await rig.admit({ maxAttempts: 1, latestStartMs: at }));
    const held = await rig.admit({ maxAttempts: 1, held: true, latestStartMs: 9 });
    const { host, ticket } = await freshHost(rig);
    const jobs = await host.batch(ticket);
    await host.commit(
      ticket,
      jobs.map((job, at) => {
        const outcome = outcomes[at] ?? "retry";
        return outcome === "succeeded" ? succeeded(job) : { ...job, outcome, error: runError };
      }),
    );
    const cancelled = await rig.admit();
    await rig.store.cancel(cancelled);
    const all = [...ids, held, cancelled];
    assert.deepEqual(
      (await Promise.all(all.map((id) => rig.record(id)))).map(({ state }) => state),
      ["failed", "failed", "succeeded", "expired", "failed", "cancelled"],
    );
    assert.deepEqual(await listed(rig), [ids[0]]);
    assert.deepEqual([...(await rig.store.inputsKept(all))], [ids[0]], "nobody else's inputs stay");
  });

  test("a held job that takes hosts down is no dead letter, nor does its input stay", async () => {
    const rig = open();
    const id = await poison(rig, { held: true });
    assert.deepEqual([(await rig.record(id)).error?.code, await listed(rig), await rig.store.inputs(id)], ["poison", [], undefined]);
  });

  test("what is discarded is listed no more, its inputs go, and its record stays as long as any other's", async () => {
    const rig = open();
    const id = await poison(rig);
    const before = await rig.record(id);
    assert.deepEqual([await rig.store.discard(id), await rig.store.discard(id)], [true, false]);
    assert.deepEqual([await listed(rig), await rig.store.inputs(id)], [[], undefined]);
    assert.deepEqual(await rig.record(id), before, "what has ended is not changed");
    const { ttlMs } = (await rig.audit()).jobs.get(id)!;
    assert.ok(ttlMs > 0 && ttlMs <= 60_000, `its record lives ${ttlMs} ms`);
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).figures.dead, 0);
    const waiting = await rig.admit();
    assert.equal(await rig.store.discard(waiting), false);
    assert.notEqual(await rig.store.inputs(waiting), undefined, "only dead letters are discarded");
  });

  test("dead letters are listed newest end first, in pages, by tenant and by error", async () => {
    const rig = open();
    const first = await poison(rig, { tenant: "a" });
    await timePasses(rig, 1);
    const second = await rig.admit({ tenant: "b", maxAttempts: 1 });
    await dieWithAll(rig);
    await timePasses(rig, 1);
    const third = await poison(rig, { tenant: "a" });
    assert.deepEqual(await listed(rig), [third, second, first]);
    assert.deepEqual(await listed(rig, { tenant: "b" }), [second]);
    assert.deepEqual(await listed(rig, { code: "poison" }), [third, first]);
    const page = await rig.store.list([rig.tag], { limit: 2, dead: true });
    assert.deepEqual(
      page.jobs.map(({ id }) => id),
      [third, second],
    );
    const rest = await rig.store.list([rig.tag], { limit: 2, dead: true, cursor: page.cursor! });
    assert.deepEqual(
      rest.jobs.map(({ id }) => id),
      [first],
    );
    const anew = await rig.store.list([rig.tag], { limit: 2, dead: true, cursor: firstPage });
    assert.deepEqual(anew, page, "the first page has a cursor, too");
    assert.deepEqual(await rig.store.openQueues([rig.tag], "listed"), [rig.tag]);
  });

  test("a queue keeps a thousand dead letters, and the oldest give way", async () => {
    const rig = open();
    const oldest = await rig.admit({ maxAttempts: 1 });
    await dieWithAll(rig);
    for (let round = 0; round < 8; round++) {
      await Promise.all(Array.from({ length: 125 }, () => rig.admit({ maxAttempts: 1 })));
      assert.equal((await dieWithAll(rig, 125)).length, 125);
    }
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).figures.dead, 1_000);
    assert.equal(await rig.store.inputs(oldest), undefined);
    assert.equal((await rig.record(oldest)).state, "failed");
  });

  test("their inputs take 64 MiB at most", async () => {
    const rig = open();
    const inputs = [new Uint8Array(7 * 1024 * 1024)];
    const ids: string[] = [];
    for (let at = 0; at < 10; at++) {
      ids.push(await rig.admit({ maxAttempts: 1, inputs }));
      await dieWithAll(rig);
    }
    assert.deepEqual([...(await rig.store.inputsKept(ids))], ids.slice(1));
    await rig.store.discard(ids[4]!);
    ids.push(await rig.admit({ maxAttempts: 1, inputs }));
    await dieWithAll(rig);
    assert.deepEqual([...(await rig.store.inputsKept(ids))], [...ids.slice(1, 4), ...ids.slice(5)], "what was discarded has made room");
  });
}

test("while the store fills up, the oldest give way", async () => {
  const rig = rigs.rig();
  for (let at = 0; at < 3; at++) {
    await rig.admit({ maxAttempts: 1 });
    await dieWithAll(rig);
    await timePasses(rig, 1);
  }
  const before = await listed(rig);
  await rigs.script("sweep", keys.base(rig.tag), [rig.tag, 1, 1, 2]);
  assert.deepEqual(await listed(rig), before.slice(0, 1));
  await rigs.script("sweep", keys.base(rig.tag), [rig.tag, 1, 1, 0]);
  assert.deepEqual(await listed(rig), before.slice(0, 1));
});

test("large inputs, which are not in Redis, are kept on as long", async (t) => {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-dead-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  let laterMs = 0;
  const blobs = new FilesystemBlobs({ root, clock: { ...systemClock, nowMs: () => systemClock.nowMs() + laterMs } });
  const store = await rigs.coordinator("with-blobs", blobs);
  const rig = rigs.rig();
  const large = new Uint8Array(9 * 1024 * 1024).fill(7);
  const ids: string[] = [];
  for (const at of [1, 2]) {
    const job = rig.job({ maxAttempts: at, inputs: [large, Uint8Array.of(at)], latestStartMs: at });
    await store.admit(job, { matchingHosts: 1, batchItems: 1, mostWaiting: 9, isLight: false });
    ids.push(job.id);
  }
  const [dead, open] = ids as [string, string];
  await dieWithAll(rig);
  await store.sweep(rig.tag, 1, 1);
  laterMs = dayMs - 60_000;
  await blobs.sweep(systemClock.nowMs() + laterMs);
  assert.equal((await store.inputs(dead))?.length, large.length + 1);
  assert.equal(await store.inputs(open), undefined, "others are not");
});

describe("Redis", () => sentences(() => rigs.rig()));
describe("memory", () => sentences(() => memoryRig()));
