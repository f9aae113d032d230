/** A Redis that forgets its scripts, is full, or is given something malformed; and what it keeps of jobs that are over. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keys, newIncarnation } from "@switchyard/protocol/redis";
import { Claims } from "../../worker/src/runner/claims.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { clockPasses, eventually, isRecord, newJob, succeeded, unforeseen } from "../support/job-rig.ts";

const rigs = await redisRigs();

const late = { code: "run_failed", detail: "the run threw", retryable: true };

describe("the store in trouble", () => {
  test("SCRIPT FLUSH between any two steps loses nothing", async () => {
    const rig = rigs.rig();
    const flush = (): Promise<unknown> => rigs.redis.script("FLUSH");
    const redis = rigs.connection("flushed");
    const incarnation = newIncarnation();
    const claims = new Claims({ redis, incarnation, hostId: "host-1" });
    await flush();
    const ids = [await rig.admit({ latestStartMs: 1 }), await rig.admit({ latestStartMs: 2 })];
    await flush();
    const ticketId = rig.offered[0] as string;
    await rig.side.take({ tag: rig.tag, incarnation, ticketId });
    const wish = { tag: rig.tag, ticketId, maxItems: 1, busyMs: 30_000, lingerMs: 50, ...unforeseen };
    await flush();
    const { claim } = await claims.exchange(undefined, wish);
    assert.ok(claim?.kind === "batch");
    await flush();
    const results = claim.jobs.map(({ id, fence }) => ({
      id,
      fence,
      outcome: "succeeded" as const,
      outputs: Buffer.from("x"),
      ttlMs: 60_000,
    }));
    const exchanged = await claims.exchange({ tag: rig.tag, ticketId, runMs: 1, batchItems: 1, results }, wish);
    assert.deepEqual(exchanged.committed, ["committed"]);
    assert.ok(exchanged.claim?.kind === "batch");
    assert.equal(exchanged.claim.jobs[0]?.id, ids[1]);
    await flush();
    assert.equal((await rig.store.cancel(ids[1]!))?.moved, true);
    await flush();
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).figures.waiting, 0);
    await flush();
    assert.ok(isRecord(await rig.store.watch(ids[0]!)));
  });

  test("a full store refuses new jobs at the door while running ones end, are cancelled, expire and are handed back", async () => {
    const rig = rigs.rig();
    const ids: string[] = [];
    for (let at = 0; at < 4; at++) ids.push(await rig.admit({ timeoutMs: at === 3 ? 150 : 30_000, latestStartMs: at }));
    const { host, ticket } = await rig.hostWithTicket();
    await rigs.redis.config("SET", "maxmemory", "1mb");
    try {
      await assert.rejects(rig.admit(), { code: "store_full" });
      const [job] = await host.batch(ticket, { maxItems: 1 });
      assert.deepEqual(await host.commit(ticket, [{ id: job!.id, fence: job!.fence, outcome: "failed", error: late }]), ["committed"]);
      assert.equal((await rig.store.cancel(ids[1]!))?.moved, true);
      await clockPasses(rig.store, (await rig.record(ids[3]!)).deadlineMs);
      await rig.store.expire([ids[3]!]);
      assert.equal((await rig.record(ids[3]!)).state, "expired");
      assert.equal(await host.renew(ticket), "renewed");
      assert.equal((await host.release(ticket)).length, 1, "a draining host passes its ticket on");
      assert.equal((await rig.store.sweep(rig.tag, 1, 1)).figures.waiting, 1);
    } finally {
      await rigs.redis.config("SET", "maxmemory", String(1024 ** 3));
    }
    assert.equal((await rig.admitted(rig.job())).answer, "admitted");
  });

  test("a job whose outputs did not fit into the store is not told succeeded", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    const { outputs: _refused, ...withoutOutputs } = succeeded(job!);
    assert.deepEqual(await host.commit(ticket, [withoutOutputs]), ["no_output"]);
    assert.equal((await rig.record(id)).state, "running");
    assert.equal((await host.claim(ticket, { sequence: 2 })).kind, "uncommitted", "it stays in its claim");
    assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["committed"]);
  });
});

describe("what stays afterwards", () => {
  test("a held job that is kept lives and is listed like any other, before and after its end", async () => {
    for (const keepFirst of [true, false]) {
      const rig = rigs.rig();
      const id = await rig.admit({ held: true, ttlMs: 60_000 });
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      if (keepFirst) await rig.store.keep(id, 3_600_000);
      await host.commit(ticket, [succeeded(job!)]);
      if (!keepFirst) await rig.store.keep(id, 3_600_000);
      const base = keys.base(rig.tag);
      for (const key of [`job:${id}`, `out:${id}:1`, `tomb:${id}`]) assert.ok((await rigs.redis.pttl(base + key)) > 3_500_000, key);
      assert.ok(
        (await rigs.redis.pttl(`${base}out:${id}:1`)) > (await rigs.redis.pttl(`${base}job:${id}`)),
        "outputs outlive their record",
      );
      assert.deepEqual(
        (await rig.store.list([rig.tag], { limit: 10 })).jobs.map((one) => one.id),
        [id],
      );
      assert.equal(await rigs.redis.zscore(`${base}recent`, id), null);
    }
  });

  test("a job that is no longer kept leaves its state and end behind", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ ttlMs: 20 });
    const { host, ticket } = await rig.hostWithTicket();
    await host.commit(
      ticket,
      (await host.batch(ticket)).map((job) => succeeded(job)),
    );
    await eventually("the record is gone", async () => !isRecord(await rig.store.read(id)));
    for (const found of [await rig.store.read(id), await rig.store.watch(id)]) {
      assert.ok(found && !isRecord(found));
      assert.equal(found.state, "succeeded");
      assert.ok(found.finishedMs > 0);
    }
  });
});

test("one bad job of a turn does not refuse its neighbours", async () => {
  const rig = rigs.rig();
  const bad = newJob(rig.tag, { latestStartMs: Number.NaN });
  const answers = await Promise.allSettled([rig.job(), bad, rig.job()].map((job) => rig.admitted(job)));
  assert.deepEqual(
    answers.map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled"],
  );
  const audit = await rig.audit();
  assert.equal(audit.due.length, 2);
});
