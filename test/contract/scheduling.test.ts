/** What every job store must decide alike at admission and at a claim: the sentences of the scheduler's figures, on both stores. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Ladder } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { redisRigs } from "../support/file-rigs.ts";
import {
  type ClaimWishes,
  clockPasses,
  type HostJob,
  inTime,
  type JobRig,
  roomyQueue,
  succeeded,
  type TestHost,
} from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();

/** In seconds, so that no test depends on how fast it runs. */
const ladder: Ladder = [
  [1, 10_000],
  [2, 12_000],
  [4, 16_000],
  [8, 24_000],
];
const foreseen = { ladders: new Map([[0, ladder]]), overheadMs: 1_000 };

/** Admits jobs of one tenant in the order given and answers their ids. */
async function admitAll(rig: JobRig, count: number, wishes: Partial<NewJob>): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at++) ids.push(await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 1_000_000 + at, ...wishes }, 1, 8));
  return ids;
}

/** Claims and commits batches until nothing waits; answers the ids of each. */
async function drain(host: TestHost, ticket: string, how: ClaimWishes, most = 50): Promise<string[][]> {
  const batches: string[][] = [];
  while (batches.length < most) {
    const answer = await host.claim(ticket, how);
    if (answer.kind !== "batch") break;
    batches.push(answer.jobs.map(({ id }) => id));
    await commit(host, ticket, answer.jobs);
  }
  return batches;
}

const commit = (host: TestHost, ticket: string, jobs: readonly HostJob[]): Promise<string[]> =>
  host.commit(
    ticket,
    jobs.map((job) => succeeded(job)),
  );

const among = (ids: readonly string[], batch: readonly string[]): number => batch.filter((id) => ids.includes(id)).length;

function sentences(open: () => JobRig): void {
  test("a job with more ahead than its deadline allows is refused with their number, and leaves nothing behind", async () => {
    const rig = open();
    await admitAll(rig, 3, {});
    const offered = rig.offered.length;
    const job = rig.job({ latestStartMs: 2_000_000, mostAhead: 2 });
    const refused = await rig.store.admit(job, { ...roomyQueue, matchingHosts: 9 });
    assert.deepEqual(refused, { id: job.id, answer: "refused", ahead: 3, waiting: 3 });
    assert.equal(await rig.store.read(job.id), undefined);
    assert.equal((await rig.audit()).due.length, 3);
    assert.equal(rig.offered.length, offered);
    assert.equal((await rig.store.admit({ ...job, mostAhead: 3 }, roomyQueue)).answer, "admitted");
  });

  test("only what starts earlier is ahead of a job in its own flow", async () => {
    const rig = open();
    await admitAll(rig, 5, { latestStartMs: 20_000 });
    assert.equal((await rig.admitted(rig.job({ latestStartMs: 10_000, mostAhead: 0 }))).waiting, 6);
    assert.equal((await rig.store.admit(rig.job({ latestStartMs: 30_000, mostAhead: 5 }), roomyQueue)).answer, "refused");
  });

  test("what is ahead of a job is told in items, not in jobs", async () => {
    const rig = open();
    await admitAll(rig, 3, { items: 4 });
    const job = rig.job({ latestStartMs: 2_000_000, mostAhead: 11 });
    assert.deepEqual(await rig.store.admit(job, roomyQueue), { id: job.id, answer: "refused", ahead: 12, waiting: 3 });
    assert.equal((await rig.store.admit({ ...job, mostAhead: 12 }, roomyQueue)).answer, "admitted");
    const other = await rig.store.admit(rig.job({ tenant: "other", tenantWeight: 0.125, items: 4, mostAhead: 7 }), roomyQueue);
    assert.deepEqual([other.answer, other.answer === "refused" && other.ahead], ["refused", 8], "eight turns of the first");
  });

  test("tickets are as many as batches of items, and never more than jobs", async () => {
    const rig = open();
    for (let at = 0; at < 6; at++) await rig.admit({ items: 4 }, 9, 8);
    assert.equal(rig.offered.length, 3);
    const large = open();
    for (let at = 0; at < 2; at++) await large.admit({ items: 40 }, 9, 8);
    assert.equal(large.offered.length, 2);
  });

  test("other tenants are ahead of a job by their share, or by all they have", async () => {
    const rig = open();
    await admitAll(rig, 10, { tenant: "many" });
    await admitAll(rig, 1, { tenant: "one" });
    let latestStartMs = 29_000; // one after the other, also within a millisecond
    const mine = (mostAhead: number, tenantWeight = 1) =>
      rig.store.admit(rig.job({ tenant: "mine", tenantWeight, mostAhead, latestStartMs: latestStartMs++ }), roomyQueue);
    const refused = await mine(1);
    assert.deepEqual([refused.answer, refused.answer === "refused" && refused.ahead], ["refused", 2], "a turn of each");
    assert.equal((await mine(2)).answer, "admitted");
    // one of mine, two of the many, the other's only one
    const second = await mine(3);
    assert.deepEqual([second.answer, second.answer === "refused" && second.ahead], ["refused", 4]);
    const heavier = await mine(2, 2);
    assert.deepEqual([heavier.answer, heavier.answer === "refused" && heavier.ahead], ["refused", 3], "weight 2 has half as much ahead");
  });

  test("an admission tells how many jobs wait, also when it changes nothing", async () => {
    const rig = open();
    const job = rig.job();
    assert.deepEqual(
      [(await rig.admitted(job)).waiting, (await rig.admitted(job)).waiting, (await rig.admitted(rig.job())).waiting],
      [1, 1, 2],
    );
  });

  test("a full queue takes no further job, but knows those that it has", async () => {
    const rig = open();
    const first = rig.job();
    await rig.admitted(first);
    await rig.admit();
    const full = { ...roomyQueue, mostWaiting: 2 };
    const job = rig.job();
    assert.deepEqual(await rig.store.admit(job, full), { id: job.id, answer: "full", waiting: 2 });
    assert.equal(await rig.store.read(job.id), undefined);
    assert.equal((await rig.store.admit(first, full)).answer, "existing");
    await rig.store.cancel(first.id);
    assert.equal((await rig.store.admit(job, full)).answer, "admitted");
  });

  test("a claim drops what could not end in time any more, and the rest fills the batch", async () => {
    const rig = open();
    const late = [await rig.admit({ timeoutMs: 10_900, latestStartMs: 1 }), await rig.admit({ timeoutMs: 10_900, latestStartMs: 2 })];
    const good = await admitAll(rig, 2, {});
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket, { ...foreseen, maxItems: 2 })).map(({ id }) => id),
      good,
    );
    for (const id of late) assert.deepEqual([(await rig.record(id)).state, (await rig.record(id)).error?.code], ["expired", "expired"]);
  });

  test("while many wait, batches do not shrink for a head that is nearly late: it is dropped", async () => {
    const rig = open();
    // alone it would end in time, in a batch of four, which is half of what waits, it would not
    const tight = await rig.admit({ timeoutMs: 16_900, latestStartMs: 1 });
    const others = await admitAll(rig, 7, {});
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket, { ...foreseen, maxItems: 8 })).map(({ id }) => id),
      others,
    );
    assert.equal((await rig.record(tight)).state, "expired");
  });

  test("a job whose shape nobody shares is not dropped for a batch that it could not be in", async () => {
    const rig = open();
    const tight = await rig.admit({ timeoutMs: 16_900, latestStartMs: 1, shapeClass: "1x9" });
    const others: string[] = [];
    for (let at = 0; at < 7; at++) others.push(...(await admitAll(rig, 1, { shapeClass: `1x${100 + at}`, timeoutMs: 40_000 })));
    const { host, ticket } = await rig.hostWithTicket();
    const batches = await drain(host, ticket, { ...foreseen, maxItems: 8 });
    assert.deepEqual(batches[0], [tight]);
    assert.deepEqual(batches.flat().sort(), [tight, ...others].sort());
  });

  test("nobody waits for the company of a job that runs alone", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 3_600_000, shapeClass: "=9" }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.batch(ticket, { ...foreseen, maxItems: 8, delayMs: 20_000 }))[0]?.id, id);
  });

  test("a job that runs alone is not dropped for a batch that it could not be in", async () => {
    const rig = open();
    const tight = await rig.admit({ timeoutMs: 16_900, latestStartMs: 1, shapeClass: "=9" });
    await admitAll(rig, 7, { shapeClass: "=9" });
    const { host, ticket } = await rig.hostWithTicket();
    const jobs = await host.batch(ticket, { ...foreseen, maxItems: 8 });
    assert.deepEqual(
      jobs.map(({ id }) => id),
      [tight],
    );
  });

  test("while few wait, a batch shrinks for a head that is nearly late", async () => {
    const rig = open();
    const tight = await rig.admit({ timeoutMs: 16_900, latestStartMs: 1 }); // two take 12 + 1 s, four would take 16
    const others = await admitAll(rig, 6, {});
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket, { ...foreseen, maxItems: 8 })).map(({ id }) => id),
      [tight, others[0]],
    );
  });

  test("what a claim costs beside its run binds nothing while no run time is known", async () => {
    const rig = open();
    await admitAll(rig, 3, {});
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.batch(ticket, { overheadMs: 100_000, maxItems: 8 })).length, 3);
  });

  test("a host that predicts nothing drops only what is over", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 10_900, latestStartMs: 1 });
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.batch(ticket, { ...foreseen, ladders: new Map([[3, ladder]]) }))[0]?.id, id);
  });

  test("a job goes by the run times of its size", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 10_900, latestStartMs: 1, size: 7 });
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.claim(ticket, { ...foreseen, ladders: new Map([[7, ladder]]) })).kind, "empty");
    assert.equal((await rig.record(id)).state, "expired");
  });

  test("a batch grows as long as all of its members end in time; the rest keeps its place", async () => {
    const rig = open();
    const tight = await rig.admit({ timeoutMs: 24_000, latestStartMs: 1 });
    const others = await admitAll(rig, 6, {});
    const { host, ticket } = await rig.hostWithTicket();
    // four take 16 + 1 s, eight would take 24
    const first = await host.batch(ticket, { ...foreseen, maxItems: 8 });
    assert.deepEqual(
      first.map(({ id }) => id),
      [tight, ...others.slice(0, 3)],
    );
    await commit(host, ticket, first);
    assert.deepEqual(
      (await host.batch(ticket, { ...foreseen, maxItems: 8 })).map(({ id }) => id),
      others.slice(3),
    );
  });

  test("tenants of one class share every batch by their weights, however much one of them sends", async () => {
    const rig = open();
    const many = await admitAll(rig, 40, { tenant: "many" });
    const heavy = await admitAll(rig, 12, { tenant: "heavy", tenantWeight: 3 });
    const { host, ticket } = await rig.hostWithTicket();
    const batches = await drain(host, ticket, { maxItems: 8 }, 2);
    for (const batch of batches) {
      assert.equal(batch.length, 8);
      assert.ok(Math.abs(among(heavy, batch) - 6) <= 1, `${among(heavy, batch)} of 8`);
      assert.equal(among(heavy, batch) + among(many, batch), 8);
    }
  });

  test("classes share by 70, 25 and 5, and none starves", async () => {
    const rig = open();
    const ids = {
      interactive: await admitAll(rig, 90, { class: "interactive" }),
      standard: await admitAll(rig, 90, { class: "standard" }),
      batch: await admitAll(rig, 90, { class: "batch" }),
    };
    const { host, ticket } = await rig.hostWithTicket();
    const served = (await drain(host, ticket, { maxItems: 10 }, 10)).flat();
    assert.equal(served.length, 100);
    for (const [one, share] of Object.entries({ interactive: 70, standard: 25, batch: 5 }))
      assert.ok(
        Math.abs(among(ids[one as keyof typeof ids], served) - share) <= 2,
        `${one}: ${among(ids[one as keyof typeof ids], served)}`,
      );
  });

  test("a class's share does not depend on how many tenants it has", async () => {
    const rig = open();
    const crowd: string[] = [];
    for (let tenant = 0; tenant < 5; tenant++) crowd.push(...(await admitAll(rig, 20, { class: "standard", tenant: `crowd-${tenant}` })));
    const alone = await admitAll(rig, 90, { class: "interactive", tenant: "alone" });
    const { host, ticket } = await rig.hostWithTicket();
    const served = (await drain(host, ticket, { maxItems: 19 }, 4)).flat();
    assert.ok(Math.abs(among(alone, served) / among(crowd, served) - 70 / 25) < 0.4, `${among(alone, served)} : ${among(crowd, served)}`);
  });

  test("a tenant that was away has saved nothing: it shares from its return", async () => {
    const rig = open();
    const [first] = await admitAll(rig, 1, { tenant: "away" });
    const busy = await admitAll(rig, 60, { tenant: "busy" });
    const { host, ticket } = await rig.hostWithTicket();
    const early = (await drain(host, ticket, { maxItems: 8 }, 4)).flat();
    assert.ok(early.includes(first!));
    const back = await admitAll(rig, 30, { tenant: "away" });
    const late = (await drain(host, ticket, { maxItems: 8 }, 2)).flat();
    assert.ok(Math.abs(among(back, late) - 8) <= 1, `${among(back, late)} of 16`);
    assert.equal(among(back, late) + among(busy, late), 16);
  });

  test("a tenant that was served while hundreds waited shares with who is left when they have gone", async () => {
    const rig = open();
    const first = await admitAll(rig, 20, { tenant: "a" });
    await admitAll(rig, 30, { tenant: "b" });
    const crowd: string[] = [];
    for (let tenant = 0; tenant < 200; tenant++) crowd.push(...(await admitAll(rig, 1, { tenant: `crowd-${tenant}` })));
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(await drain(host, ticket, { maxItems: 1 }, 1), [[first[0]]]);
    for (const id of crowd) await rig.store.cancel(id);
    const served = (await drain(host, ticket, { maxItems: 4 }, 4)).flat();
    assert.equal(served.length, 16);
    assert.ok(among(first, served) >= 5, `${among(first, served)} of 16: a batch less, and the rest in turns`);
  });

  test("jobs that end while they wait are not charged to their tenant", async () => {
    const rig = open();
    const cancelled = await admitAll(rig, 20, { tenant: "a" });
    const kept = await admitAll(rig, 8, { tenant: "a" });
    await admitAll(rig, 20, { tenant: "b" });
    for (const id of cancelled) await rig.store.cancel(id);
    const { host, ticket } = await rig.hostWithTicket();
    const [batch] = await drain(host, ticket, { maxItems: 8 }, 1);
    assert.equal(among(kept, batch!), 4);
  });

  test("a host is told to wait for company as long as the model allows, and is woken when a batch is full", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 3_600_000 }, 1, 3);
    const { host, ticket } = await rig.hostWithTicket();
    const answer = await host.claim(ticket, { ...foreseen, maxItems: 3, delayMs: 20_000 });
    assert.deepEqual(answer, { kind: "defer", untilMs: (await rig.record(id)).createdMs + 20_000 });
    const stateOf = async (): Promise<string | undefined> => (await rig.audit()).tickets.find((one) => one.id === ticket)?.state;
    assert.equal(await stateOf(), "deferring");
    assert.equal(await host.renew(ticket), "renewed");
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 1, 3);
    assert.equal(await stateOf(), "deferring", "two are not enough");
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 1, 3);
    assert.equal(await stateOf(), "held", "it was woken");
    assert.equal(rig.offered.length, 1, "and no other ticket was needed");
    assert.equal((await host.batch(ticket, { ...foreseen, maxItems: 3, delayMs: 20_000 })).length, 3);
  });

  test("a batch is full by its items", async () => {
    const rig = open();
    const how = { ...foreseen, maxItems: 8, delayMs: 20_000 };
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000, items: 4 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.claim(ticket, how)).kind, "defer");
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000, items: 4 }, 1, 8);
    assert.equal((await rig.audit()).tickets.find((one) => one.id === ticket)?.state, "held", "it was woken");
    assert.equal((await host.batch(ticket, how)).length, 2);
  });

  test("a job that comes back without time to wait wakes a host that waits for company", async () => {
    const rig = open();
    const urgent = await rig.admit({ timeoutMs: 600_000, latestStartMs: 5_000 }, 2, 8);
    const first = await rig.hostWithTicket();
    const [job] = await first.host.batch(first.ticket);
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 2, 8);
    const second = await rig.hostWithTicket("host-2");
    assert.equal((await second.host.claim(second.ticket, { ...foreseen, maxItems: 8, delayMs: 20_000 })).kind, "defer");
    await rig.store.sweep(rig.tag, 2, 8);
    const stateOf = async (): Promise<string | undefined> => (await rig.audit()).tickets.find((one) => one.id === second.ticket)?.state;
    assert.equal(await stateOf(), "deferring");
    assert.equal(job?.id, urgent);
    await first.host.commit(first.ticket, [
      { ...job!, outcome: "retry", retryDelayMs: 0, error: { code: "run_failed", detail: "", retryable: true } },
    ]);
    await rig.store.sweep(rig.tag, 2, 8);
    assert.equal(await stateOf(), "held");
  });

  test("the jobs of a lost host wake one that waits for company", async () => {
    const rig = open();
    await rig.admit({ timeoutMs: 600_000, latestStartMs: 5_000 }, 2, 8);
    const first = await rig.hostWithTicket();
    await first.host.batch(first.ticket);
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 2, 8);
    const second = await rig.hostWithTicket("host-2");
    assert.equal((await second.host.claim(second.ticket, { ...foreseen, maxItems: 8, delayMs: 20_000 })).kind, "defer");
    await rig.store.takeBack(rig.tag, first.host.incarnation, 1, 8);
    assert.equal((await rig.audit()).tickets.find((one) => one.id === second.ticket)?.state, "held");
  });

  test("a host that lingers for a part of a millisecond is woken all the same", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await rig.store.cancel(id);
    assert.equal((await host.claim(ticket, { lingerMs: 5_000.5 })).kind, "empty");
    await rig.admit();
    assert.equal((await rig.audit()).tickets.find((one) => one.id === ticket)?.state, "held");
  });

  test("a tenant whose weight is one again shares like others, also with jobs that come back", async () => {
    const rig = open();
    await rig.store.cancel(await rig.admit({ tenant: "back", tenantWeight: 3 }));
    const back = await admitAll(rig, 8, { tenant: "back" });
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.batch(ticket, { maxItems: 8 })).length, 8);
    await admitAll(rig, 8, { tenant: "other" });
    assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 1), 8);
    const ids = (await host.batch(ticket, { maxItems: 8 })).map(({ id }) => id);
    assert.equal(among(back, ids), 4);
  });

  test("a claim that is repeated hands out none that is over by now; when all are, it is a new one", async () => {
    const { first, host, long, rig, short, ticket } = await inTime(300, async (timeoutMs) => {
      const rig = open();
      const short = await rig.admit({ timeoutMs, latestStartMs: 1 });
      const long = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const first = await host.batch(ticket, { sequence: 1, maxItems: 2 });
      return first.length === 2 ? { first, host, long, rig, short, ticket } : undefined;
    });
    await clockPasses(rig.store, first[0]!.deadlineMs);
    const again = await host.batch(ticket, { sequence: 1, maxItems: 2 });
    assert.deepEqual(
      [first, again].map((jobs) => jobs.map(({ id }) => id)),
      [[short, long], [long]],
    );
    await rig.store.cancel(long);
    assert.equal((await host.claim(ticket, { sequence: 1 })).kind, "empty");
    assert.equal((await rig.record(short)).state, "expired");
  });

  test("a claim that is repeated with its jobs holds the ticket as busy again: others are asked for what comes", async () => {
    const rig = open();
    await rig.admit({ timeoutMs: 3_600_000 }, 2, 1);
    const { host, ticket } = await rig.hostWithTicket();
    const [first] = await host.batch(ticket, { busyMs: 60_000 });
    assert.equal(await host.take(ticket), "held", "its lease was renewed meanwhile");
    const again = await host.batch(ticket, { sequence: 1, busyMs: 60_000 });
    assert.deepEqual(
      again.map(({ id }) => id),
      [first!.id],
    );
    assert.equal((await rig.audit()).tickets.find(({ id }) => id === ticket)?.state, "busy");
    await rig.admit({ timeoutMs: 3_600_000 }, 2, 1);
    assert.equal(rig.offered.length, 2);
  });

  test("after hundreds that came too late a claim looks again in the place of retiring", async () => {
    const rig = open();
    await admitAll(rig, 600, { timeoutMs: 5_000 });
    const kept = [await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 2_000_000 }, 1, 8)];
    const { host, ticket } = await rig.hostWithTicket();
    const first = await host.claim(ticket, { ...foreseen, maxItems: 8, lingerMs: 0 });
    assert.equal(first.kind, "defer");
    const batches = await drain(host, ticket, { ...foreseen, maxItems: 8, lingerMs: 0 });
    assert.deepEqual(batches.flat(), kept);
  });

  test("a job that its host has no time left to run is expired, without a run", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ id, fence: job!.fence, outcome: "late" }]), ["committed"]);
    const { state, error, timings } = await rig.record(id);
    assert.deepEqual(
      [state, error?.detail, timings?.runMs],
      ["expired", "a run could not have ended before the deadline, so none was started", 0],
    );
  });

  test("a job without time to wait wakes a host that waits for company", async () => {
    const rig = open();
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.claim(ticket, { ...foreseen, maxItems: 8, delayMs: 20_000 })).kind, "defer");
    await rig.admit({ timeoutMs: 30_000, latestStartMs: 5_000 }, 1, 8);
    assert.equal((await rig.audit()).tickets.find((one) => one.id === ticket)?.state, "held");
  });

  test("an interactive job does not wait as long as others for the batch that they fill", async () => {
    const rig = open();
    await rig.admit({ timeoutMs: 3_600_000, latestStartMs: 3_000_000 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    const how = { ...foreseen, maxItems: 8, delayMs: 20_000 };
    assert.equal((await host.claim(ticket, how)).kind, "defer");
    const stateOf = async (): Promise<string | undefined> => (await rig.audit()).tickets.find((one) => one.id === ticket)?.state;
    await rig.admit({ class: "interactive", timeoutMs: 300_000, latestStartMs: 290_000 }, 1, 8);
    assert.equal(await stateOf(), "deferring", "a tenth of its time is longer than the rest of the wait");
    const id = await rig.admit({ class: "interactive", timeoutMs: 100_000, latestStartMs: 80_000 }, 1, 8);
    assert.equal(await stateOf(), "held", "it was woken");
    assert.deepEqual(await host.claim(ticket, how), { kind: "defer", untilMs: (await rig.record(id)).createdMs + 10_000 });
  });

  test("nobody waits for company beyond what the deadline leaves", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 30_000 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    const answer = await host.claim(ticket, { ...foreseen, maxItems: 8, delayMs: 25_000 });
    // the next batch, of two, takes 12 s and 1 s beside the run; 5 ms are kept
    assert.deepEqual(answer, { kind: "defer", untilMs: (await rig.record(id)).deadlineMs - 13_005 });
    const soon = open();
    await soon.admit({ timeoutMs: 13_000 }, 1, 8);
    const second = await soon.hostWithTicket();
    assert.equal((await second.host.claim(second.ticket, { ...foreseen, maxItems: 8, delayMs: 25_000 })).kind, "batch");
  });

  test("while nothing is known of run times, every job waits for company a tenth of its time at most", async () => {
    const rig = open();
    const id = await rig.admit({ timeoutMs: 100_000 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    const answer = await host.claim(ticket, { maxItems: 8, delayMs: 25_000 });
    // whatever its run takes, most of its time is left for it
    assert.deepEqual(answer, { kind: "defer", untilMs: (await rig.record(id)).createdMs + 10_000 });
    const other = await host.claim(ticket, { ladders: new Map([[7, ladder]]), maxItems: 8, delayMs: 25_000 });
    assert.deepEqual(other, answer, "nor is another size class a help");
  });

  test("an interactive job waits for company a tenth of its time at most", async () => {
    const rig = open();
    const id = await rig.admit({ class: "interactive", timeoutMs: 100_000 }, 1, 8);
    const { host, ticket } = await rig.hostWithTicket();
    const answer = await host.claim(ticket, { ...foreseen, maxItems: 8, delayMs: 25_000 });
    assert.deepEqual(answer, { kind: "defer", untilMs: (await rig.record(id)).createdMs + 10_000 });
  });
}

describe("the Redis store", () => {
  sentences(() => rigs.rig());

  test("a claim shares among ten thousand tenants", async () => {
    const rig = rigs.rig();
    const ids = await admitAll(rig, 2, { tenant: "a" });
    const { host, ticket } = await rig.hostWithTicket();
    const seed = `for at = 1, 10000 do
      redis.call('HSET', KEYS[1] .. 'flows', 'standard:t' .. at, '1')
      redis.call('ZADD', KEYS[1] .. 'order:standard:t' .. at, at, 'gone-' .. at)
    end`;
    await rigs.redis.eval(seed, 1, keys.base(rig.tag));
    const batches = await drain(host, ticket, { maxItems: 8 }, 1);
    assert.deepEqual(batches, [[ids[0]]], "a turn of each, and the records of the others are gone");
  });

  test("of a long list of kept jobs what is gone leaves it by thousands in a sweep, and what lives on stays", async () => {
    const rig = rigs.rig();
    const index = `${keys.base(rig.tag)}index`;
    const seed = `for at = 1, 9000 do redis.call('ZADD', KEYS[1], at, 'gone-' .. at) end`;
    await rigs.redis.eval(seed, 1, index);
    const [id] = await admitAll(rig, 1, {});
    await rigs.redis.zadd(index, 4_500.5, id as string);
    for (let sweep = 0; sweep < 4; sweep++) await rig.store.sweep(rig.tag, 1, 1);
    assert.deepEqual(await rigs.redis.zrange(index, "0", "-1"), [id]);
    // what came first goes first, wherever the look had come to
    await rigs.redis.eval(seed.replace("9000", "8000"), 1, index);
    await rigs.redis.zrem(index, id as string);
    await rigs.redis.hset(`${keys.base(rig.tag)}clock`, "trimmed", 400);
    for (let sweep = 0; sweep < 2; sweep++) await rig.store.sweep(rig.tag, 1, 1);
    assert.equal(await rigs.redis.zcard(index), 0);
    // one that lives on stands first: what is gone behind it is found all the same
    await rigs.redis.eval(seed, 1, index);
    await rigs.redis.zadd(index, 0, id as string);
    for (let sweep = 0; sweep < 4; sweep++) await rig.store.sweep(rig.tag, 1, 1);
    assert.deepEqual(await rigs.redis.zrange(index, "0", "-1"), [id]);
  });

  test("a ticket that cannot be read is lost, and another is issued for it", async () => {
    const rig = rigs.rig();
    await rig.admit();
    await rigs.redis.hset(`${keys.base(rig.tag)}tickets`, rig.offered[0] as string, "held nobody 1.5");
    await rig.admit();
    assert.equal(rig.offered.length, 2);
    await rig.store.sweep(rig.tag, 1, 1);
    assert.ok(!(await rig.audit()).tickets.some(({ id }) => id === rig.offered[0]));
  });
});

describe("the memory store", () => sentences(() => memoryRig()));
