/** Races of the ticket protocol, each on a real Redis: what two parties do at once, in both orders; how many tickets there are, and whose jobs they serve. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bullPrefix, keys, newJobId, ticketQueueName } from "@switchyard/protocol/redis";
import type { JobNotice } from "../../coordinator/src/ports/job-store.ts";
import { redisRigs } from "../support/file-rigs.ts";
import {
  clockPasses,
  eventually,
  isRecord,
  lingeringHost,
  ranInAShortTime,
  roomyQueue,
  runningForAShortTime,
  succeeded,
  ticketEndMs,
} from "../support/job-rig.ts";

const rigs = await redisRigs();

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
    const late = await runningForAShortTime(rig);
    await clockPasses(rig.store, late.job.deadlineMs);
    await rig.store.expire([late.id]);
    assert.equal((await rig.record(late.id)).state, "expired");
    assert.deepEqual(await late.host.commit(late.ticket, [succeeded(late.job)]), ["ended"]);

    const { deadlineMs, id } = await ranInAShortTime(rig);
    const { revision } = await rig.record(id);
    await clockPasses(rig.store, deadlineMs);
    await rig.store.expire([id]);
    const record = await rig.record(id);
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
    const { host, id, job, ticket } = await runningForAShortTime(rig);
    await clockPasses(rig.store, job.deadlineMs);
    assert.deepEqual(await host.commit(ticket, [succeeded(job)]), ["expired"]);
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

describe("tickets", () => {
  test("1,000 jobs of one tenant in one turn are all admitted once, and tickets never exceed the hosts that could use them", async () => {
    const rig = rigs.rig();
    const jobs = Array.from({ length: 1_000 }, () => rig.job({ tenant: "one" }));
    const answers = await Promise.all(jobs.map((job) => rig.admitted(job, { matchingHosts: 3, batchItems: 16 })));
    assert.ok(answers.every(({ answer }) => answer === "admitted"));
    // one more than there are hosts counts as lost, should the turn take longer than a host would need to take one
    const offered = new Set(rig.offered).size;
    assert.ok(offered >= 3 && offered <= 4, `${offered} tickets`);
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

  test("tickets that hosts fetched without hearing of it are replaced, while those that nobody fetched are offered again", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const lock = (id: string, ms: number): Promise<unknown> =>
      rigs.redis.set(`${bullPrefix}:${ticketQueueName(rig.tag)}:${id}:lock`, "host", "PX", ms);
    const known = new Set<string>(rig.offered);
    for (let lost = 0; lost < 5; lost++) {
      const { tickets } = await rig.audit();
      assert.equal(tickets.length, 1);
      await lock(tickets[0]!.id, 8_000);
      await clockPasses(rig.store, tickets[0]!.untilMs + 20);
      const { tickets: offered } = await rig.store.sweep(rig.tag, 1, 1);
      assert.ok(offered.length === 1 && !known.has(offered[0]!), `${offered} after ${[...known]}`);
      known.add(offered[0]!);
      assert.equal(await rig.host().take(tickets[0]!.id), "gone");
    }
    const { tickets } = await rig.audit();
    await lock(tickets[0]!.id, 60_000); // as if it were new however long the rest takes
    await clockPasses(rig.store, tickets[0]!.untilMs + 20);
    await rig.store.sweep(rig.tag, 1, 1);
    assert.equal(await rig.host().take(tickets[0]!.id), "held", "it was fetched a moment ago");
    assert.ok((await rig.audit()).tickets.length <= 2, "those that nobody took never exceed matching hosts + 1");
  });

  test("a waiting job gets another ticket when every live one is busy and another host matches", async () => {
    const rig = rigs.rig();
    await rig.admit({}, 2);
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { busyMs: 60_000 });
    await rig.admit({}, 1);
    assert.equal(rig.offered.length, 1, "the only host is busy");
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 2);
  });

  test("of hosts that linger one is woken that is not busy under another ticket of the queue", async () => {
    const rig = rigs.rig();
    const untilMs = (await rig.store.sweep(rig.tag, 2, 1)).nowMs + 60_000;
    const entries = { a: `busy one ${untilMs}`, b: `lingering one ${untilMs}`, c: `lingering two ${untilMs}` };
    await rigs.redis.hset(`${keys.base(rig.tag)}tickets`, entries);
    await rig.admit({}, 2);
    const { tickets } = await rig.audit();
    assert.deepEqual(Object.fromEntries(tickets.map(({ id, state }) => [id, state])), { a: "busy", b: "lingering", c: "held" });
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
