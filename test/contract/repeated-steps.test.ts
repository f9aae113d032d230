/** Steps of the ticket protocol that are done again, each on a real Redis: a repeat of what was done, a retry of what failed, a hand-back of what was not run. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keys, newIncarnation } from "@switchyard/protocol/redis";
import { Claims } from "../../worker/src/runner/claims.ts";
import { redisRigs } from "../support/file-rigs.ts";
import {
  clockPasses,
  eventually,
  inTime,
  isAccepted,
  roomyQueue,
  runningForAShortTime,
  succeeded,
  timePasses,
  unforeseen,
} from "../support/job-rig.ts";

const rigs = await redisRigs();

const late = { code: "run_failed", detail: "the run threw", retryable: true };

describe("every step twice", () => {
  test("admitting again answers what the record says and changes nothing", async () => {
    const rig = rigs.rig();
    const job = rig.job({ timeoutMs: 30_000 });
    const first = await rig.admitted(job);
    assert.deepEqual([first.answer, first.state], ["admitted", "queued"]);
    await timePasses(rig, 5);
    const second = await rig.admitted(job);
    assert.deepEqual(second, { ...first, answer: "existing" }, "with its first deadline");
    assert.equal(rig.offered.length, 1);
    await rig.store.cancel(job.id);
    const before = await rigs.redis.get(`${keys.base(rig.tag)}job:${job.id}`);
    assert.equal((await rig.admitted({ ...job, wait: true })).state, "cancelled");
    assert.deepEqual(await rigs.redis.get(`${keys.base(rig.tag)}job:${job.id}`), before, "an ended record is not written");
  });

  test("of one job admitted twice in one turn, whoever waits is told", async () => {
    const told: string[] = [];
    const store = await rigs.coordinator("twice");
    await store.onNotice(({ id }) => told.push(id));
    const rig = rigs.rig();
    const job = rig.job();
    const both = [job, { ...job, wait: true }];
    const answers = (await Promise.all(both.map((one) => store.admit(one, roomyQueue)))).filter(isAccepted);
    assert.deepEqual(
      answers.map(({ answer }) => answer),
      ["admitted", "existing"],
    );
    assert.equal(answers[1]?.deadlineMs, answers[0]?.deadlineMs);
    await store.cancel(job.id);
    await eventually("it is told", () => told.length === 1);
    assert.equal((await rig.audit()).due.length, 0);
  });

  test("take, renew, claim, commit, release, cancel and expire answer the same or what their pages say", async () => {
    const rig = rigs.rig();
    const ids: string[] = [];
    for (let at = 0; at < 3; at++) ids.push(await rig.admit({ latestStartMs: at }, 1, 4));
    const ticket = rig.offered[0] as string;
    const host = rig.host();
    assert.deepEqual([await host.take(ticket), await host.take(ticket)], ["held", "held"]);
    assert.deepEqual([await host.renew(ticket), await host.renew(ticket)], ["renewed", "renewed"]);
    const batch = await host.batch(ticket, { sequence: 1, maxItems: 2 });
    assert.deepEqual(await host.batch(ticket, { sequence: 1, maxItems: 2 }), batch, "the same batch, the same fences");
    assert.equal((await host.claim(ticket, { sequence: 0 })).kind, "stale_sequence");
    assert.equal((await host.claim(ticket, { sequence: 2 })).kind, "uncommitted");
    const outcomes = [succeeded(batch[0]!), { ...batch[1]!, outcome: "failed" as const, error: late }];
    assert.deepEqual(await host.commit(ticket, outcomes), ["committed", "committed"]);
    const revision = (await rig.record(ids[0]!)).revision;
    assert.deepEqual(await host.commit(ticket, outcomes), ["ended", "ended"]);
    assert.equal((await rig.record(ids[0]!)).revision, revision);
    assert.equal((await rig.record(ids[1]!)).error?.code, "run_failed");
    assert.deepEqual([(await rig.store.cancel(ids[2]!))?.moved, (await rig.store.cancel(ids[2]!))?.moved], [true, true]);
    assert.equal((await rig.record(ids[2]!)).revision, 2, "cancelled once");
    assert.equal((await host.claim(ticket, { sequence: 2, lingerMs: 0 })).kind, "retired");
    assert.equal((await host.claim(ticket, { sequence: 2, lingerMs: 0 })).kind, "not_yours", "its entry is gone");
    assert.deepEqual(await host.release(ticket), []);
  });

  test("a claim that arrives once more after its commit takes nothing", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket, { sequence: 1 });
    await host.commit(ticket, [succeeded(job!)]);
    await rig.admit();
    assert.equal((await host.claim(ticket, { sequence: 1 })).kind, "stale_sequence");
    assert.equal((await host.batch(ticket, { sequence: 2 })).length, 1);
  });

  test("a claim whose reply was lost and whose jobs were cancelled meanwhile takes others when it is repeated", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { sequence: 1 });
    await rig.store.cancel(id);
    const other = await rig.admit();
    assert.deepEqual(
      (await host.batch(ticket, { sequence: 1 })).map((job) => job.id),
      [other],
    );
  });

  test("a claim whose reply was lost and whose jobs are over takes others when it is repeated, and they expire", async () => {
    const rig = rigs.rig();
    const { host, id, job, ticket } = await runningForAShortTime(rig);
    const other = await rig.admit();
    await clockPasses(rig.store, job.deadlineMs);
    assert.deepEqual(
      (await host.batch(ticket, { sequence: 1 })).map((job) => job.id),
      [other],
    );
    assert.equal((await rig.record(id)).state, "expired");
    const { claims, due } = await rig.audit();
    assert.deepEqual([claims.flatMap(({ jobs }) => jobs.map((job) => job.id)), due], [[other], [other]]);
  });

  test("a claim that its host does not know of returns without using up an attempt, and its late repeat is refused", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const ticket = rig.offered[0] as string;
    const incarnation = newIncarnation();
    const redis = rigs.connection("claims");
    const claims = new Claims({ redis, incarnation, hostId: "host-1" });
    assert.equal(await rig.side.take({ tag: rig.tag, incarnation, ticketId: ticket }), "held");
    const wish = { tag: rig.tag, ticketId: ticket, maxItems: 4, busyMs: 30_000, lingerMs: 50, ...unforeseen };
    // the reply of this claim never reaches the host
    const lost = await rig.side.claim({ ...wish, incarnation, sequence: 1, hostId: "host-1", ...unforeseen });
    assert.equal(lost.kind, "batch");
    assert.equal(await rig.store.returnClaim(rig.tag, incarnation, 2), 0, "another sequence is left alone");
    assert.equal(await rig.store.returnClaim(rig.tag, incarnation, 1), 1);
    assert.equal(await rig.store.returnClaim(rig.tag, incarnation, 1), 0);
    await rig.store.sweep(rig.tag, 1, 1);
    assert.equal((await claims.exchange(undefined, wish)).claim?.kind, "stale_sequence", "the late repeat");
    const { claim } = await claims.exchange(undefined, wish);
    assert.equal(claim?.kind, "batch", "the host goes on with its next sequence");
    if (claim?.kind === "batch") assert.deepEqual([claim.jobs[0]?.attempt, claim.jobs[0]?.fence], [1, 2]);
  });

  test("a fence that was taken back cannot commit after the job was claimed again", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [old] = await host.batch(ticket);
    await rig.store.returnClaim(rig.tag, host.incarnation, 1);
    assert.deepEqual(await host.commit(ticket, [succeeded(old!, Buffer.from("old"))]), ["stale"]);
    const [fresh] = await host.batch(ticket);
    assert.equal(fresh!.fence, 2);
    assert.deepEqual(await host.commit(ticket, [succeeded(old!, Buffer.from("old"))]), ["stale"]);
    assert.equal((await rig.record(id)).state, "running");
    assert.deepEqual(await host.commit(ticket, [succeeded(fresh!, Buffer.from("fresh"))]), ["committed"]);
    assert.equal(Buffer.from((await rig.store.outputs(id, 2))!).toString(), "fresh");
  });
});

describe("retries and hand-backs", () => {
  test("a job is retried after its back-off until its attempts are used up, and keeps the last error", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ maxAttempts: 3 });
    const { host, ticket } = await rig.hostWithTicket();
    let claim = await host.claim(ticket);
    for (let attempt = 1; attempt <= 3; attempt++) {
      assert.ok(claim.kind === "batch");
      const { jobs, nowMs } = claim;
      const [job] = jobs;
      assert.equal(job!.attempt, attempt);
      const error = { code: "run_failed", detail: `attempt ${attempt}`, retryable: true };
      const [answer] = await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error, retryDelayMs: 150 }]);
      assert.equal(answer, attempt < 3 ? "requeued" : "failed");
      if (attempt === 3) break;
      const { later, nowMs: waitsMs } = await rig.audit();
      assert.deepEqual(later, [id]);
      assert.equal((await rig.record(id)).error, undefined, "a waiting job shows no error");
      claim = await host.claim(ticket, { lingerMs: 100 });
      if (claim.kind === "batch") {
        assert.ok(claim.nowMs >= nowMs + 150, "not before its back-off is over");
      } else {
        assert.equal(claim.kind, "empty");
        await clockPasses(rig.store, waitsMs + 150);
        claim = await host.claim(ticket);
      }
    }
    const record = await rig.record(id);
    assert.deepEqual([record.state, record.error?.detail, record.attempt], ["failed", "attempt 3", 3]);
  });

  test("a retry that would begin after the deadline fails at once", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ timeoutMs: 20_000 });
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error: late, retryDelayMs: 21_000 }]), [
      "failed",
    ]);
  });

  test("a retry that is due after its host's ticket retired gets another from the sweep", async () => {
    const { retryDelayMs, rig } = await inTime(400, async (retryDelayMs) => {
      const rig = rigs.rig();
      const id = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error: late, retryDelayMs }]);
      const { kind } = await host.claim(ticket, { lingerMs: 0 });
      if (kind === "batch") return undefined; // it was due by then
      assert.equal(kind, "retired");
      return { retryDelayMs, rig };
    });
    await timePasses(rig, retryDelayMs);
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).tickets.length, 1, "the sweep brings it back with a ticket");
  });

  test("a ticket that is set aside leaves no other behind, and the next sweep issues one at once", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const released = await rigs.script("release", keys.base(rig.tag), [rig.tag, host.incarnation, ticket, 0, "aside"]);
    assert.deepEqual([released, (await rig.audit()).tickets], [[], []]);
    assert.equal((await rig.store.sweep(rig.tag, 1, 1)).tickets.length, 1);
  });

  test("a job that a draining host hands back keeps its place and its attempts, and has a ticket", async () => {
    const rig = rigs.rig();
    const [first, second] = [await rig.admit({ latestStartMs: 10 }), await rig.admit({ latestStartMs: 20 })];
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket, { maxItems: 1 });
    assert.equal(job!.id, first);
    assert.deepEqual(await host.commit(ticket, [{ id: first, fence: 1, outcome: "back" }]), ["requeued"]);
    const next = await host.release(ticket);
    assert.equal(next.length, 1);
    const other = rig.host("host-2");
    await other.take(next[0] as string);
    const batch = await other.batch(next[0] as string);
    assert.deepEqual(
      batch.map(({ id, attempt }) => [id, attempt]),
      [
        [first, 1],
        [second, 1],
      ],
    );
  });
});
