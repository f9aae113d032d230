/** Races of the ticket protocol, each on a real Redis: what two parties do at once, in both orders, and what is done twice. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { keys, newIncarnation, newJobId, type ScriptName } from "@switchyard/protocol/redis";
import type { JobNotice } from "../../coordinator/src/ports/job-store.ts";
import { Claims } from "../../worker/src/runner/claims.ts";
import {
  clockPasses,
  eventually,
  type HostJob,
  isAccepted,
  isRecord,
  type JobRig,
  newJob,
  roomyQueue,
  succeeded,
  unforeseen,
} from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
});

after(async () => {
  await rigs?.close();
  await server?.stop();
});

const late = { code: "run_failed", detail: "the run threw", retryable: true };

/** When the ticket stops counting. */
async function ticketEndMs(rig: JobRig, ticket: string): Promise<number> {
  return (await rig.audit()).tickets.find(({ id }) => id === ticket)?.untilMs ?? 0;
}

async function lingeringHost(rig: JobRig, lingerMs = 2_000) {
  const first = await rig.admit();
  const { host, ticket } = await rig.hostWithTicket();
  await host.commit(
    ticket,
    (await host.batch(ticket)).map((job) => succeeded(job)),
  );
  assert.equal((await host.claim(ticket, { lingerMs })).kind, "empty");
  return { host, ticket, first };
}

describe("hosts that die", () => {
  test("the ticket of a killed lingering host stops counting, and the next admit issues one for another host", async () => {
    const rig = rigs.rig();
    const { ticket } = await lingeringHost(rig);
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 1, "the lingering host was woken: no ticket yet");
    await clockPasses(rig.store, await ticketEndMs(rig, ticket)); // it never came
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 3, "the woken host does not count any more, and two hosts could use a ticket each");
  });

  test("the ticket of a killed lingering host stops counting, and the next sweep issues one for another host", async () => {
    const rig = rigs.rig();
    const { ticket } = await lingeringHost(rig);
    await rig.admit({}, 2);
    await clockPasses(rig.store, await ticketEndMs(rig, ticket));
    const { tickets } = await rig.store.sweep(rig.tag, 2, 1);
    assert.equal(tickets.length, 1);
    assert.ok(!(await rig.audit()).tickets.some(({ id }) => id === ticket), "the lost ticket is forgotten");
  });

  test("the jobs of a killed busy host return with their order, their attempt counted, and a fresh ticket", async () => {
    const rig = rigs.rig();
    const ids = [await rig.admit({ latestStartMs: 100 }), await rig.admit({ latestStartMs: 200 }), await rig.admit({ latestStartMs: 300 })];
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket, { maxItems: 2 })).map(({ id }) => id),
      ids.slice(0, 2),
    );
    const { returned, tickets } = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.equal(returned, 2);
    assert.equal(tickets.length, 1, "a fresh ticket for another host");
    const second = rig.host("host-2");
    assert.equal(await second.take(tickets[0] as string), "held");
    const again: HostJob[] = [];
    while (again.length < ids.length) {
      const jobs = await second.batch(tickets[0] as string);
      assert.equal(jobs.length, 1, "those that were running are under suspicion, and run alone");
      again.push(...jobs);
      await second.commit(
        tickets[0] as string,
        jobs.map((job) => succeeded(job)),
      );
    }
    assert.deepEqual(
      again.map(({ id }) => id),
      ids,
      "in the order of their first admission",
    );
    assert.deepEqual(
      again.map(({ attempt }) => attempt),
      [2, 2, 1],
    );
    assert.deepEqual(
      again.map(({ fence }) => fence),
      [2, 2, 1],
    );
  });

  test("a stopped host that resumes after its claims went back is refused everywhere, and the winner's bytes stay", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host: zombie, ticket } = await rig.hostWithTicket();
    const [stale] = await zombie.batch(ticket);
    const { tickets } = await rig.store.takeBack(rig.tag, zombie.incarnation, 1, 1);
    const winner = rig.host("host-2");
    await winner.take(tickets[0] as string);
    const [job] = await winner.batch(tickets[0] as string);
    assert.deepEqual(await winner.commit(tickets[0] as string, [succeeded(job!, Buffer.from("winner"))]), ["committed"]);

    assert.deepEqual(await zombie.commit(ticket, [succeeded(stale!, Buffer.from("zombie"))]), ["barred"]);
    assert.equal((await zombie.claim(ticket)).kind, "barred");
    assert.equal((await zombie.claim(ticket, { sequence: 1 })).kind, "barred", "a repeat of its old claim too");
    assert.equal(await zombie.renew(ticket), "barred");
    assert.equal(await zombie.take(tickets[0] as string), "barred");
    assert.deepEqual(await zombie.release(ticket), [], "nothing of its own is left to release");
    const record = await rig.record(id);
    assert.equal(record.state, "succeeded");
    assert.equal(Buffer.from((await rig.store.outputs(id, record.fence))!).toString(), "winner");
  });

  test("the same host starts again with a new incarnation and works at once", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host: gone, ticket } = await rig.hostWithTicket("host-1");
    await gone.batch(ticket);
    const { tickets } = await rig.store.takeBack(rig.tag, gone.incarnation, 1, 1);
    const again = rig.host("host-1");
    assert.equal(await again.take(tickets[0] as string), "held");
    assert.equal((await again.batch(tickets[0] as string, { sequence: 1 })).length, 1, "sequences begin anew");
  });

  test("a job that three hosts died on is failed as poison", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ maxAttempts: 10 });
    let ticket = rig.offered[0] as string;
    for (let death = 1; death <= 3; death++) {
      const host = rig.host(`host-${death}`);
      await host.take(ticket);
      await host.batch(ticket);
      const back = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
      assert.deepEqual([back.returned, back.failed], death < 3 ? [1, 0] : [0, 1]);
      ticket = back.tickets[0] ?? "";
    }
    const record = await rig.record(id);
    assert.equal(record.state, "failed");
    assert.equal(record.error?.code, "poison");
    assert.equal(record.attempt, 3);
  });

  test("taking back twice finds nothing left", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket);
    assert.equal((await rig.store.takeBack(rig.tag, host.incarnation, 1, 1)).returned, 1);
    const again = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.deepEqual(again, { returned: 0, failed: 0, tickets: [] });
  });
});

describe("two parties at one thing", () => {
  test("of two holders of one ticket the last taker wins, and the first ends after its current claim", async () => {
    const rig = rigs.rig();
    await rig.admit();
    await rig.admit();
    const { host: first, ticket } = await rig.hostWithTicket();
    const [running] = await first.batch(ticket, { maxItems: 1 });
    const second = rig.host("host-2");
    assert.equal(await second.take(ticket), "held");
    assert.equal(await first.renew(ticket), "not_yours");
    assert.equal((await first.claim(ticket)).kind, "not_yours");
    assert.deepEqual(await first.commit(ticket, [succeeded(running!)]), ["committed"], "its current claim still counts");
    assert.deepEqual(await first.release(ticket), []);
    assert.equal((await second.batch(ticket)).length, 1);
  });

  test("an admit before a retiring claim gives it the job; an admit after it issues a ticket", async () => {
    const before = rigs.rig();
    const { host, ticket } = await lingeringHost(before);
    await before.admit();
    assert.equal((await host.claim(ticket, { lingerMs: 0 })).kind, "batch");
    assert.equal(before.offered.length, 1);

    const behind = rigs.rig();
    const other = await lingeringHost(behind);
    assert.equal((await other.host.claim(other.ticket, { lingerMs: 0 })).kind, "retired");
    await behind.admit();
    assert.equal(behind.offered.length, 2);
    assert.equal(await other.host.renew(other.ticket), "not_yours", "the retired ticket never lives again");
    assert.equal(await other.host.take(other.ticket), "gone");
  });

  test("an admit and a retiring claim at the same time leave no job without a ticket", async () => {
    for (let round = 0; round < 60; round++) {
      const rig = rigs.rig();
      const { host, ticket } = await lingeringHost(rig);
      const [claim] = await Promise.all([host.claim(ticket, { lingerMs: 0 }), rig.admit()]);
      if (claim.kind === "batch") continue;
      assert.equal(claim.kind, "retired");
      assert.equal(rig.offered.length, 2, `round ${round}: the job has a ticket`);
    }
  });

  test("a host that is woken at the end of its linger gets the job, and no second ticket is needed", async () => {
    const rig = rigs.rig();
    const subscriber = rigs.connection("wake");
    const { host, ticket } = await lingeringHost(rig);
    const woken: string[] = [];
    await subscriber.subscribe(`sy:wake:${host.incarnation}`);
    subscriber.on("message", (_channel, tag: string) => woken.push(tag));
    await rig.admit();
    await eventually("the host is woken", () => woken.length === 1);
    assert.equal((await host.claim(ticket, { lingerMs: 0 })).kind, "batch");
    assert.deepEqual(rig.offered.length, 1);

    // over by the store's clock, and not yet swept: the admit does not rely on it, and the host's last look finds the job all the same
    const over = rigs.rig();
    const slow = await lingeringHost(over, 5);
    await clockPasses(over.store, await ticketEndMs(over, slow.ticket));
    await over.admit();
    assert.equal(over.offered.length, 2);
    assert.equal((await slow.host.claim(slow.ticket, { lingerMs: 0 })).kind, "batch");
  });

  test("a cancel before the commit wins, a cancel after it changes nothing", async () => {
    const rig = rigs.rig();
    const early = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.equal((await rig.store.cancel(early))?.moved, true);
    assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["ended"]);
    assert.equal((await rig.record(early)).state, "cancelled");

    const done = await rig.admit();
    const [other] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [succeeded(other!)]), ["committed"]);
    const revision = (await rig.record(done)).revision;
    const answer = await rig.store.cancel(done);
    assert.equal(answer?.moved, false);
    assert.deepEqual([answer?.record.state, answer?.record.revision], ["succeeded", revision]);
  });

  test("a cancel and a commit at the same time agree on one outcome", async () => {
    const states = new Set<string>();
    for (let round = 0; round < 60; round++) {
      const rig = rigs.rig();
      const id = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      const commit = (): Promise<string[]> => host.commit(ticket, [succeeded(job!)]);
      const cancel = () => rig.store.cancel(id);
      const [committed, cancelled] =
        round % 2 === 0
          ? await Promise.all([commit(), cancel()])
          : await Promise.all([cancel(), commit()]).then(([a, b]) => [b, a] as const);
      const { state } = await rig.record(id);
      states.add(state);
      assert.deepEqual([committed[0], cancelled?.moved], state === "succeeded" ? ["committed", false] : ["ended", true]);
    }
    assert.ok([...states].every((state) => state === "succeeded" || state === "cancelled"));
  });

  test("an expiry before the commit wins, an expiry after it changes nothing", async () => {
    const rig = rigs.rig();
    const late = await rig.admit({ timeoutMs: 120 });
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    await clockPasses(rig.store, job!.deadlineMs);
    await rig.store.expire([late]);
    assert.equal((await rig.record(late)).state, "expired");
    assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["ended"]);

    const done = await rig.admit({ timeoutMs: 400 });
    const [other] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [succeeded(other!)]), ["committed"]);
    const { revision } = await rig.record(done);
    await clockPasses(rig.store, other!.deadlineMs);
    await rig.store.expire([done]);
    const record = await rig.record(done);
    assert.deepEqual([record.state, record.revision], ["succeeded", revision]);
  });

  test("deadlines of ten thousand calls at one moment are told in one go", async () => {
    const rig = rigs.rig();
    const ids = Array.from({ length: 10_000 }, () => newJobId(rig.tag));
    const late = await rig.admit({ timeoutMs: 1 });
    await clockPasses(rig.store, (await rig.record(late)).deadlineMs);
    await rig.store.expire([...ids, late]);
    assert.equal((await rig.record(late)).state, "expired");
  });

  test("an expiry before the deadline does nothing", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    await rig.store.expire([id]);
    assert.equal((await rig.record(id)).state, "queued");
  });

  test("a commit after the deadline answers expired, and the job never succeeds", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ timeoutMs: 120 });
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    await clockPasses(rig.store, job!.deadlineMs);
    assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["expired"]);
    const record = await rig.record(id);
    assert.deepEqual([record.state, record.error?.code], ["expired", "expired"]);
  });

  test("a coordinator that watches while the job commits reads the outcome or is told it", async () => {
    const told = new Map<string, JobNotice[]>();
    const store = await rigs.coordinator("watching");
    await store.onNotice((notice) => told.set(notice.id, [...(told.get(notice.id) ?? []), notice]));
    for (let round = 0; round < 60; round++) {
      const rig = rigs.rig();
      const id = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      const [found] = await Promise.all([store.watch(id), host.commit(ticket, [succeeded(job!)])]);
      assert.ok(isRecord(found));
      if (found.state === "succeeded") continue;
      assert.equal(found.state, "running");
      await eventually(`round ${round}: the notice comes`, () => told.get(id)?.length === 1);
      assert.deepEqual([told.get(id)?.[0]?.state, told.get(id)?.[0]?.fence], ["succeeded", 1]);
    }
  });

  test("coordinators whose names begin alike are each told", async () => {
    const rig = rigs.rig();
    const told: string[] = [];
    const [ten, one] = [await rigs.coordinator("c10"), await rigs.coordinator("c1")];
    await ten.onNotice(() => told.push("c10"));
    await one.onNotice(() => told.push("c1"));
    const job = rig.job({ wait: true });
    await ten.admit(job, roomyQueue);
    await one.admit(job, roomyQueue);
    const other = await rig.admit();
    await ten.watch(other);
    await one.watch(other);
    await rig.store.cancel(job.id);
    await rig.store.cancel(other);
    await eventually("both are told of both", () => told.length === 4);
    assert.deepEqual(told.sort(), ["c1", "c1", "c10", "c10"]);
  });
});

describe("every step twice", () => {
  test("admitting again answers what the record says and changes nothing", async () => {
    const rig = rigs.rig();
    const job = rig.job({ timeoutMs: 5_000 });
    const first = await rig.admitted(job);
    assert.deepEqual([first.answer, first.state], ["admitted", "queued"]);
    await clockPasses(rig.store, rig.store.nowMs() + 5);
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
    const id = await rig.admit({ timeoutMs: 50 });
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { sequence: 1 });
    const other = await rig.admit();
    await clockPasses(rig.store, (await rig.record(id)).deadlineMs);
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
    const wish = { tag: rig.tag, ticketId: ticket, maxItems: 4, busyMs: 100, lingerMs: 50, ...unforeseen };
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
    for (let attempt = 1; attempt <= 3; attempt++) {
      const [job] = await host.batch(ticket);
      assert.equal(job!.attempt, attempt);
      const error = { code: "run_failed", detail: `attempt ${attempt}`, retryable: true };
      const [answer] = await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error, retryDelayMs: 150 }]);
      assert.equal(answer, attempt < 3 ? "requeued" : "failed");
      if (attempt === 3) break;
      assert.equal((await host.claim(ticket, { lingerMs: 100 })).kind, "empty", "not before its back-off is over");
      assert.deepEqual((await rig.audit()).later, [id]);
      await clockPasses(rig.store, rig.store.nowMs() + 150);
      assert.equal((await rig.record(id)).error, undefined, "a waiting job shows no error");
    }
    const record = await rig.record(id);
    assert.deepEqual([record.state, record.error?.detail, record.attempt], ["failed", "attempt 3", 3]);
  });

  test("a retry that would begin after the deadline fails at once", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ timeoutMs: 2_000 });
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error: late, retryDelayMs: 3_000 }]), [
      "failed",
    ]);
  });

  test("a retry that is due after its host's ticket retired gets another from the sweep", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    await host.commit(ticket, [{ id, fence: job!.fence, outcome: "retry", error: late, retryDelayMs: 400 }]);
    assert.equal((await host.claim(ticket, { lingerMs: 0 })).kind, "retired");
    await clockPasses(rig.store, rig.store.nowMs() + 400);
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

describe("tickets", () => {
  test("1,000 jobs of one tenant in one turn are all admitted once, and tickets never exceed the hosts that could use them", async () => {
    const rig = rigs.rig();
    const jobs = Array.from({ length: 1_000 }, () => rig.job({ tenant: "one" }));
    const answers = await Promise.all(jobs.map((job) => rig.admitted(job, { matchingHosts: 3, batchItems: 16 })));
    assert.ok(answers.every(({ answer }) => answer === "admitted"));
    assert.equal(rig.offered.length, 3);
    const { host, ticket } = await rig.hostWithTicket();
    const seen = new Set<string>();
    for (;;) {
      const claim = await host.claim(ticket, { maxItems: 64, lingerMs: 0 });
      if (claim.kind !== "batch") break;
      for (const job of claim.jobs) seen.add(job.id);
      await host.commit(
        ticket,
        claim.jobs.map((job) => succeeded(job)),
      );
    }
    assert.equal(seen.size, 1_000);
    const audit = await rig.audit();
    assert.deepEqual([audit.due, audit.later, audit.order, audit.immortal], [[], [], { interactive: [], standard: [], batch: [] }, []]);
  });

  test("a ticket whose offers keep getting lost is offered again, so that a queue is never without one", async () => {
    const rig = rigs.rig();
    await rig.admit();
    for (let lost = 0; lost < 5; lost++) {
      const { tickets } = await rig.audit();
      await clockPasses(rig.store, Math.max(...tickets.map(({ untilMs }) => untilMs)));
      const { tickets: offered } = await rig.store.sweep(rig.tag, 1, 1);
      assert.equal(offered.length, 1, `after ${lost + 1} lost offers`);
      assert.ok((await rig.audit()).tickets.length <= 2, "tickets that nobody took never exceed matching hosts + 1");
    }
  });

  test("a waiting job gets another ticket when every live one is busy and another host matches", async () => {
    const rig = rigs.rig();
    await rig.admit({}, 2);
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { busyMs: 5_000 });
    await rig.admit({}, 1);
    assert.equal(rig.offered.length, 1, "the only host is busy");
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 2);
  });
});

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
    const wish = { tag: rig.tag, ticketId, maxItems: 1, busyMs: 100, lingerMs: 50, ...unforeseen };
    await flush();
    const { claim } = await claims.exchange(undefined, wish);
    assert.ok(claim?.kind === "batch");
    await flush();
    const results = claim.jobs.map(({ id, fence }) => ({
      id,
      fence,
      outcome: "succeeded" as const,
      outputs: Buffer.from("x"),
      ttlMs: 1_000,
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

describe("fair shares", () => {
  test("under backlog the classes share by weight and none starves", async () => {
    const rig = rigs.rig();
    const classes = ["interactive", "standard", "batch"] as const;
    await Promise.all(
      classes.flatMap((one) => Array.from({ length: 600 }, () => rig.admitted(rig.job({ class: one }), { batchItems: 10 }))),
    );
    const { host, ticket } = await rig.hostWithTicket();
    const served = { interactive: 0, standard: 0, batch: 0 };
    for (let round = 0; round < 80; round++) {
      const jobs = await host.batch(ticket, { maxItems: 10 });
      for (const job of jobs) served[job.class]++;
      await host.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      );
    }
    const total = served.interactive + served.standard + served.batch;
    const shares = { interactive: 70, standard: 25, batch: 5 };
    for (const one of classes) {
      assert.ok(Math.abs((100 * served[one]) / total - shares[one]) <= 2.5, `${one}: ${served[one]} of ${total}`);
    }
  });

  test("a batch holds one shape class, skipped jobs keep their order, and items are counted", async () => {
    const rig = rigs.rig();
    const shapes = ["a", "b", "a", "b", "a", "b"];
    const ids: string[] = [];
    for (const [at, shapeClass] of shapes.entries()) ids.push(await rig.admit({ shapeClass, latestStartMs: at, items: 2 }));
    const { host, ticket } = await rig.hostWithTicket();
    const seen: string[][] = [];
    for (let round = 0; round < 4; round++) {
      const jobs = await host.batch(ticket, { maxItems: 5 });
      assert.ok(jobs.reduce((sum, job) => sum + job.items, 0) <= 5);
      seen.push(jobs.map(({ id }) => id));
      await host.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      );
    }
    const [a, b] = [ids.filter((_id, at) => at % 2 === 0), ids.filter((_id, at) => at % 2 === 1)];
    assert.deepEqual(seen, [a.slice(0, 2), b.slice(0, 2), a.slice(2), b.slice(2)]);
  });
});

describe("loss of presence", () => {
  const host = (incarnation: string): string => keys.host(incarnation);
  const script = (name: ScriptName, key: string, args: (string | number)[]) => rigs.script(name, key, args);

  test("a host is declared lost once, by the store's clock, and its later beats are refused", async () => {
    const incarnation = newIncarnation();
    assert.equal(await script("lose", host(incarnation), [40]), "none");
    const [, first] = (await script("heartbeat", host(incarnation), ["{}", "", "{}"])) as [number, string];
    assert.equal(first, "ready");
    assert.equal(await script("lose", host(incarnation), [5_000]), "present");
    await eventually("its beat grows old", async () => (await script("lose", host(incarnation), [40])) === "lost");
    assert.equal(await script("lose", host(incarnation), [40]), "lost");
    assert.equal(((await script("heartbeat", host(incarnation), ["{}", "", "{}"])) as [number, string])[1], "lost");
    assert.ok((await rigs.redis.pttl(host(incarnation))) > 0);
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
