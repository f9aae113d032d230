/** What every job store must do, whatever it is made of: the same sentences for the Redis store and the memory store. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { newJobId } from "@switchyard/protocol/redis";
import type { JobNotice, NewJob } from "../../coordinator/src/ports/job-store.ts";
import {
  clockPasses,
  eventually,
  inTime,
  isRecord,
  type JobRig,
  ranInAShortTime,
  runningForAShortTime,
  succeeded,
  timePasses,
} from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisFarm, startRedisCluster } from "../support/redis-forms.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let farm: RedisFarm;
let clusterRigs: RedisRigs;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  farm = await RedisFarm.open();
  clusterRigs = await RedisRigs.open((await startRedisCluster(farm)).url);
});

after(async () => {
  await rigs?.close();
  await clusterRigs?.close();
  await server?.stop();
  await farm?.[Symbol.asyncDispose]();
});

const runError = { code: "run_failed", detail: "the run threw", retryable: true };

/** Admits, claims and ends one job. */
async function runOne(rig: JobRig, wishes: Partial<NewJob> = {}): Promise<string> {
  const id = await rig.admit(wishes);
  const { host, ticket } = await rig.hostWithTicket();
  assert.deepEqual(
    await host.commit(
      ticket,
      (await host.batch(ticket)).map((job) => succeeded(job)),
    ),
    ["committed"],
  );
  await host.claim(ticket, { lingerMs: 0 });
  return id;
}

function sentences(open: () => JobRig): void {
  test("a host that holds two tickets of a queue counts once, and as busy while one of them is", async () => {
    const twoTickets = async () => {
      const rig = open();
      await rig.admit({}, 2);
      const { host, ticket } = await rig.hostWithTicket();
      await rig.admit({}, 2);
      assert.equal(await host.take(rig.offered[1] as string), "held");
      return { rig, host, ticket };
    };
    const idle = await twoTickets();
    assert.equal((await idle.rig.store.sweep(idle.rig.tag, 2, 1)).tickets.length, 1, "two jobs wait, and one host is there for them");
    const busy = await twoTickets();
    await busy.host.batch(busy.ticket, { maxItems: 1, busyMs: 60_000 });
    assert.equal((await busy.rig.store.sweep(busy.rig.tag, 2, 1)).tickets.length, 1, "a job waits beside a host that is busy");
  });

  test("a job goes from its client to a host and back", async () => {
    const rig = open();
    const admitted = await rig.admitted(
      rig.job({ class: "interactive", tags: { team: "a" }, requestId: "r-1", ttlMs: 9_000, durability: "fsync" }),
    );
    assert.deepEqual([admitted.answer, admitted.state, admitted.deadlineMs - admitted.createdMs], ["admitted", "queued", 30_000]);
    const { host, ticket } = await rig.hostWithTicket("host-7");
    const [job] = await host.batch(ticket);
    const { createdMs, deadlineMs } = admitted;
    assert.deepEqual(job, { id: admitted.id, fence: 1, deadlineMs, items: 1, attempt: 1, createdMs, class: "interactive", ttlMs: 9_000 });
    const running = await rig.record(admitted.id);
    assert.deepEqual([running.state, running.hostId, running.revision, running.finishedMs], ["running", "host-7", 2, undefined]);
    assert.deepEqual(await host.commit(ticket, [succeeded(job, Buffer.from("answer"))], { runMs: 12.5 }), ["committed"]);
    const record = await rig.record(admitted.id);
    assert.deepEqual([record.state, record.revision, record.fence, record.attempt], ["succeeded", 3, 1, 1]);
    assert.deepEqual(
      [record.model, record.version, record.tenant, record.tags, record.requestId, record.durability],
      ["digits", 1, "default", { team: "a" }, "r-1", "fsync"],
    );
    assert.deepEqual([record.timings?.runMs, record.timings?.batchItems], [12.5, 1]);
    assert.equal(record.timings?.totalMs, record.finishedMs! - createdMs);
    assert.equal(Buffer.from((await rig.store.outputs(admitted.id, 1))!).toString(), "answer");
    assert.equal(await rig.store.outputs(admitted.id, 2), undefined);
  });

  test("a job admitted twice is there once", async () => {
    const rig = open();
    const job = rig.job();
    const first = await rig.admitted(job);
    assert.deepEqual(await rig.admitted(job), { ...first, answer: "existing" });
    assert.equal((await rig.audit()).due.length, 1);
  });

  test("jobs that nobody has heard of are nowhere", async () => {
    const rig = open();
    const id = newJobId(rig.tag);
    assert.deepEqual([await rig.store.read(id), await rig.store.watch(id), await rig.store.cancel(id)], [undefined, undefined, undefined]);
    await rig.store.expire([id]);
    await rig.store.keep(id, 1_000);
    assert.equal((await rig.store.peek([id])).size, 0);
    assert.equal(await rig.store.outputs(id, 1), undefined);
  });

  test("who waits is told the outcome once, with everything a view needs", async () => {
    const rig = open();
    const told: JobNotice[] = [];
    await rig.store.onNotice((notice) => {
      if (notice.id.startsWith(rig.tag)) told.push(notice);
    });
    const first = await rig.admit({ wait: true, class: "batch", latestStartMs: 1 });
    const unheard = await rig.admit({ latestStartMs: 2 });
    const second = await rig.admit({ latestStartMs: 3 });
    assert.ok(isRecord(await rig.store.watch(second)));
    const { host, ticket } = await rig.hostWithTicket();
    const jobs = await host.batch(ticket);
    const outcomes = jobs.map((job) => (job.id === second ? { ...job, outcome: "failed" as const, error: runError } : succeeded(job)));
    await host.commit(ticket, outcomes);
    await eventually("both are told", () => told.length >= 2);
    assert.ok(!told.some(({ id }) => id === unheard));
    for (const [id, state] of [
      [first, "succeeded"],
      [second, "failed"],
    ] as const) {
      const notice = told.find((one) => one.id === id)!;
      const record = await rig.record(id);
      const { revision, fence, createdMs, startedMs, finishedMs, deadlineMs, attempt } = record;
      const expected = {
        id,
        state,
        revision,
        fence,
        createdMs,
        startedMs,
        finishedMs,
        deadlineMs,
        attempt,
        runMs: 3,
        batchItems: 3,
        items: 1,
        class: record.class,
        tenant: record.tenant,
        counts: true,
      };
      assert.deepEqual(notice, record.error ? { ...expected, error: record.error } : expected);
    }
    assert.equal(told.length, 2);
  });

  test("an ended job is never moved again", async () => {
    const rig = open();
    const { id } = await ranInAShortTime(rig);
    const before = await rig.record(id);
    assert.equal((await rig.store.cancel(id))?.moved, false);
    await clockPasses(rig.store, before.deadlineMs);
    await rig.store.expire([id]);
    await rig.store.sweep(rig.tag, 1, 1);
    assert.equal((await rig.admitted(rig.job({ id, wait: true }))).state, "succeeded");
    assert.deepEqual(await rig.record(id), before);
  });

  test("a waiting job that is cancelled leaves the queue, and cancelling it again says so", async () => {
    const rig = open();
    const id = await rig.admit();
    for (const _twice of [1, 2]) {
      const answer = await rig.store.cancel(id);
      assert.deepEqual([answer?.moved, answer?.record.state, answer?.record.revision], [true, "cancelled", 2]);
    }
    assert.equal((await rig.record(id)).error?.code, "cancelled");
    const { host, ticket } = await rig.hostWithTicket();
    assert.equal((await host.claim(ticket)).kind, "empty");
  });

  test("nothing starts after its deadline: a claim passes over what is late and tells it expired", async () => {
    const rig = open();
    const late = await rig.admit({ timeoutMs: 15, latestStartMs: 1 });
    const fresh = await rig.admit();
    await clockPasses(rig.store, (await rig.record(late)).deadlineMs);
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket)).map(({ id }) => id),
      [fresh],
    );
    assert.equal((await rig.record(late)).state, "expired");
  });

  test("a sweep expires what is over, counts what is left and names outstanding claims", async () => {
    const rig = open();
    await rig.admit({ latestStartMs: 1 });
    await rig.admit({ latestStartMs: 2 });
    const late = await rig.admit({ timeoutMs: 15 });
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { maxItems: 1 });
    await clockPasses(rig.store, (await rig.record(late)).deadlineMs);
    const swept = await rig.store.sweep(rig.tag, 1, 1);
    assert.equal(swept.expired, 1);
    assert.deepEqual([swept.figures.waiting, swept.figures.running], [1, 1]);
    assert.ok(swept.figures.oldestMs >= 15);
    assert.deepEqual(swept.claims, [{ incarnation: host.incarnation, sequence: 1 }]);
    assert.deepEqual(await rig.store.openQueues([rig.tag]), [rig.tag]);
    assert.deepEqual(await rig.store.openQueues([open().tag]), []);
  });

  test("a queue is open while a job has no outcome, and is named as listed while ended ones are kept", async () => {
    const rig = open();
    const unfinished = (): Promise<string[]> => rig.store.openQueues([rig.tag]);
    const listed = (): Promise<string[]> => rig.store.openQueues([rig.tag], "listed");
    assert.deepEqual([await unfinished(), await listed()], [[], []]);
    const id = await rig.admit();
    assert.deepEqual([await unfinished(), await listed()], [[rig.tag], [rig.tag]]);
    await rig.store.cancel(id);
    assert.deepEqual([await unfinished(), await listed()], [[], [rig.tag]]);
  });

  test("jobs run in the order of their latest start, whatever the order of their admission", async () => {
    const rig = open();
    const slow = await rig.admit({ latestStartMs: 20_000 });
    const urgent = await rig.admit({ latestStartMs: 1_000 });
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket)).map(({ id }) => id),
      [urgent, slow],
    );
  });

  test("a batch holds one shape class and as many items as fit, and who was passed over keeps its place", async () => {
    const rig = open();
    const ids: string[] = [];
    for (const [at, shapeClass] of ["a", "b", "a", "b", "a"].entries())
      ids.push(await rig.admit({ shapeClass, latestStartMs: at, items: 2 }));
    const { host, ticket } = await rig.hostWithTicket();
    const seen: number[][] = [];
    for (let round = 0; round < 3; round++) {
      const jobs = await host.batch(ticket, { maxItems: 5 });
      seen.push(jobs.map(({ id }) => ids.indexOf(id)));
      await host.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      );
    }
    assert.deepEqual(seen, [[0, 2], [1, 3], [4]]);
  });

  test("a job whose inputs cannot be stacked runs alone, even beside its like", async () => {
    const rig = open();
    for (const [at, shapeClass] of ["=a", "=a", "b", "b"].entries()) await rig.admit({ shapeClass, latestStartMs: at });
    const { host, ticket } = await rig.hostWithTicket();
    const sizes: number[] = [];
    for (let round = 0; round < 3; round++) {
      const jobs = await host.batch(ticket);
      sizes.push(jobs.length);
      await host.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      );
    }
    assert.deepEqual(sizes, [1, 1, 2]);
  });

  test("tenants may hold blanks and any letters, errors may have several lines, and a model may have no inputs", async () => {
    const rig = open();
    const tenant = "Ärzte & Co = 100 %";
    const id = await rig.admit({ tenant, shapeClass: "", tags: { "a b": "c\nd" } });
    const { host, ticket } = await rig.hostWithTicket("my-host-7");
    const [job] = await host.batch(ticket);
    assert.deepEqual([(await rig.record(id)).hostId, (await rig.record(id)).tenant], ["my-host-7", tenant]);
    const error = { code: "run_failed", detail: "line one\nline two", retryable: false };
    assert.deepEqual(await host.commit(ticket, [{ id, fence: job!.fence, outcome: "failed", error }]), ["committed"]);
    const record = await rig.record(id);
    assert.deepEqual([record.hostId, record.tenant, record.tags, record.error], ["my-host-7", tenant, { "a b": "c\nd" }, error]);
  });

  test("a claim repeated with its sequence is the same batch; older and later ones are refused", async () => {
    const rig = open();
    for (let at = 0; at < 4; at++) await rig.admit({ latestStartMs: at });
    const { host, ticket } = await rig.hostWithTicket();
    const jobs = await host.batch(ticket, { sequence: 1, maxItems: 2 });
    assert.deepEqual(await host.batch(ticket, { sequence: 1, maxItems: 4 }), jobs);
    assert.equal((await host.claim(ticket, { sequence: 2 })).kind, "uncommitted");
    assert.equal((await host.claim(ticket, { sequence: 0 })).kind, "stale_sequence");
    assert.deepEqual(await host.commit(ticket, [succeeded(jobs[0]!)]), ["committed"]);
    assert.deepEqual(await host.batch(ticket, { sequence: 1 }), [jobs[1]], "what is left of it");
    assert.deepEqual(await host.commit(ticket, [succeeded(jobs[0]!), succeeded(jobs[1]!)]), ["ended", "committed"]);
    assert.equal((await host.claim(ticket, { sequence: 1 })).kind, "stale_sequence");
    assert.equal((await host.batch(ticket, { sequence: 2 })).length, 2);
  });

  test("a claim whose reply was lost goes back without using up an attempt", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [lost] = await host.batch(ticket);
    assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 5), 0);
    assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 1), 1);
    assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 1), 0);
    assert.equal((await rig.record(id)).attempt, 0);
    assert.deepEqual(await host.commit(ticket, [succeeded(lost!)]), ["stale"]);
    assert.equal((await host.claim(ticket, { sequence: 1 })).kind, "stale_sequence");
    const [job] = await host.batch(ticket, { sequence: 2 });
    assert.deepEqual([job?.fence, job?.attempt], [2, 1]);
  });

  test("a job whose host dies is given to another host, until it proves to be poison", async () => {
    const rig = open();
    const id = await rig.admit({ maxAttempts: 9 });
    let ticket = rig.offered[0]!;
    for (let death = 1; death <= 3; death++) {
      const host = rig.host(`host-${death}`);
      await host.take(ticket);
      const [job] = await host.batch(ticket);
      assert.deepEqual([job?.fence, job?.attempt], [death, death]);
      const back = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
      assert.deepEqual([back.returned, back.failed, back.tickets.length], death < 3 ? [1, 0, 1] : [0, 1, 0]);
      assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["barred"]);
      assert.deepEqual(
        [(await host.claim(ticket)).kind, await host.take(ticket), await host.renew(ticket)],
        ["barred", "barred", "barred"],
      );
      ticket = back.tickets[0] ?? "";
    }
    assert.deepEqual([(await rig.record(id)).state, (await rig.record(id)).error?.code], ["failed", "poison"]);
  });

  test("a job whose host dies on its last attempt has failed", async () => {
    const rig = open();
    const id = await rig.admit({ maxAttempts: 1 });
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket);
    assert.equal((await rig.store.takeBack(rig.tag, host.incarnation, 1, 1)).failed, 1);
    assert.equal((await rig.record(id)).error?.code, "run_failed");
  });

  test("a retry waits for its back-off, then runs with the next attempt, until none is left", async () => {
    const { host, id, retry, rig } = await inTime(150, async (retryDelayMs) => {
      const rig = open();
      const id = await rig.admit({ maxAttempts: 2 });
      const { host, ticket } = await rig.hostWithTicket();
      const first = await host.claim(ticket);
      assert.ok(first.kind === "batch");
      const retry = { id, outcome: "retry" as const, error: runError, retryDelayMs };
      assert.deepEqual(await host.commit(ticket, [{ ...retry, fence: first.jobs[0]!.fence }]), ["requeued"]);
      const early = await host.claim(ticket, { lingerMs: 0 });
      if (early.kind === "retired") return { host, id, retry, rig };
      assert.ok(early.kind === "batch" && early.nowMs >= first.nowMs + retryDelayMs, "it runs before its back-off is over");
      return undefined;
    });
    await timePasses(rig, retry.retryDelayMs);
    const { tickets } = await rig.store.sweep(rig.tag, 1, 1);
    assert.equal(await host.take(tickets[0]!), "held");
    const [second] = await host.batch(tickets[0]!);
    assert.deepEqual([second?.attempt, second?.fence], [2, 2]);
    assert.deepEqual(await host.commit(tickets[0]!, [{ ...retry, fence: 2 }]), ["failed"]);
    assert.deepEqual((await rig.record(id)).error, runError);
  });

  test("a job handed back unrun keeps its place and its attempts", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ id, fence: 1, outcome: "back" }]), ["requeued"]);
    assert.deepEqual([(await rig.record(id)).state, (await rig.record(id)).attempt], ["queued", 0]);
    const [next] = await host.release(ticket);
    assert.equal(await host.take(next!), "held");
    assert.equal((await host.batch(next!))[0]?.attempt, 1);
  });

  test("success without stored outputs is not accepted", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ id, fence: 1, outcome: "succeeded" }]), ["no_output"]);
    assert.equal((await rig.record(id)).state, "running");
    assert.deepEqual(await host.commit(ticket, [succeeded({ id, fence: 1 })]), ["committed"]);
  });

  test("a late success is told expired", async () => {
    const rig = open();
    const { host, id, job, ticket } = await runningForAShortTime(rig);
    await clockPasses(rig.store, job.deadlineMs);
    assert.deepEqual(await host.commit(ticket, [succeeded(job)]), ["expired"]);
    assert.equal((await rig.record(id)).state, "expired");
  });

  test("tickets are held by their last taker, retire when nothing waits, and are issued when something does", async () => {
    const rig = open();
    await runOne(rig);
    const first = rig.offered[0]!;
    const host = rig.host();
    assert.equal(await host.take(first), "gone");
    assert.equal(await host.renew(first), "not_yours");
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 2);
    const ticket = rig.offered[1]!;
    const other = rig.host("host-2");
    assert.deepEqual([await host.take(ticket), await other.take(ticket)], ["held", "held"]);
    assert.deepEqual([await host.renew(ticket), await other.renew(ticket)], ["not_yours", "renewed"]);
    assert.equal((await host.claim(ticket)).kind, "not_yours");
    await other.batch(ticket);
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 3, "the first holder is busy, and another host matches");
  });

  test("an ended job is forgotten after its retention, and leaves its state behind if it was kept", async () => {
    const rig = open();
    const kept = await runOne(rig, { ttlMs: 15, tenant: "red" });
    const held = await runOne(rig, { ttlMs: 15, held: true });
    await eventually("both records are gone", async () => (await rig.store.peek([kept, held])).size === 0);
    const tomb = await rig.store.read(kept);
    assert.ok(tomb && !isRecord(tomb));
    assert.equal(tomb.state, "succeeded");
    assert.equal(tomb.tenant, "red");
    assert.equal(await rig.store.read(held), undefined);
  });

  test("a held job that is kept stays as long as any other, even when it had ended", async () => {
    const rig = open();
    const id = await runOne(rig, { ttlMs: 30_000, held: true });
    await rig.store.keep(id, 60_000);
    await rig.store.keep(id, 60_000);
    const audit = await rig.audit();
    assert.ok(audit.jobs.get(id)!.ttlMs > 50_000);
    assert.equal((await rig.record(id)).held, false);
  });

  test("held jobs that ended in one commit are gone after their time, but for one that was kept on", async () => {
    const rig = open();
    const wishes = { held: true, ttlMs: 1_000 };
    const ids = await Promise.all([0, 1, 2].map(() => rig.admit(wishes, 1, 3)));
    const { host, ticket } = await rig.hostWithTicket();
    const batch = await host.batch(ticket, { maxItems: 3 });
    await host.commit(
      ticket,
      batch.map((job) => succeeded(job)),
    );
    await rig.store.keep(ids[1]!, 60_000);
    await eventually("two are gone", async () => {
      await rig.store.forgetEnded(rig.tag);
      return (await rig.store.peek(ids)).size === 1;
    });
    assert.equal((await rig.record(ids[1]!)).state, "succeeded");
    assert.deepEqual(await rig.store.keepingEnded([rig.tag]), []);
  });

  test("lists are newest first, filtered, and turn page by page without gap or repetition", async () => {
    const rig = open();
    const ids: string[] = [];
    for (let at = 0; at < 7; at++)
      ids.push(await rig.admit({ tags: { half: at < 4 ? "first" : "second" }, class: at % 2 ? "batch" : "standard" }));
    await rig.store.cancel(ids[3]!);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await rig.store.list([rig.tag], cursor ? { limit: 3, cursor } : { limit: 3 });
      seen.push(...page.jobs.map(({ id }) => id));
      cursor = page.cursor;
    } while (cursor);
    assert.deepEqual([...seen].sort(), [...ids].sort());
    const created = await Promise.all(seen.map(async (id) => (await rig.record(id)).createdMs));
    assert.deepEqual(
      created,
      [...created].sort((a, b) => b - a),
    );
    const idsOf = async (filter: object): Promise<string[]> =>
      (await rig.store.list([rig.tag], { limit: 50, ...filter })).jobs.map(({ id }) => id).sort();
    assert.deepEqual(await idsOf({ tag: "half:first" }), ids.slice(0, 4).sort());
    assert.deepEqual(await idsOf({ state: "cancelled" }), [ids[3]]);
    assert.deepEqual(await idsOf({ class: "batch" }), [ids[1], ids[3], ids[5]].sort());
    await assert.rejects(rig.store.list([rig.tag], { limit: 3, cursor: "nonsense" }), { code: "invalid_request" });
  });

  test("a list shows the jobs that one host has taken, and those of a span of time", async () => {
    const rig = open();
    const taken = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { maxItems: 1 });
    await new Promise((resolve) => setTimeout(resolve, 3));
    const later = await rig.admit();
    const idsOf = async (filter: object): Promise<string[]> =>
      (await rig.store.list([rig.tag], { limit: 50, ...filter })).jobs.map(({ id }) => id);
    const { hostId } = await rig.record(taken);
    assert.deepEqual(await idsOf({ host: hostId }), [taken]);
    assert.deepEqual(await idsOf({ host: "nobody" }), []);
    const { createdMs } = await rig.record(later);
    assert.deepEqual(await idsOf({ createdBeforeMs: createdMs }), [taken]);
    assert.deepEqual(await idsOf({ createdAfterMs: createdMs - 1 }), [later]);
    assert.deepEqual(await idsOf({ createdAfterMs: createdMs, createdBeforeMs: createdMs + 1 }), []);
  });

  test("what waits is counted by tenant and class, and what runs, has ended or is of another queue is not", async () => {
    const rig = open();
    assert.deepEqual(await rig.store.waiting([rig.tag]), []);
    assert.deepEqual(await rig.store.waiting([]), []);
    await rig.admit({ tenant: "red", class: "interactive" });
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket, { maxItems: 1 });
    for (const wishes of [{ tenant: "red" }, { tenant: "red" }, { tenant: "a.b_c-d" }, { tenant: "red", class: "batch" as const }]) {
      await rig.admit(wishes);
    }
    await rig.store.cancel(await rig.admit({ tenant: "blue" }));
    const flows = await rig.store.waiting([rig.tag, open().tag]);
    assert.ok(flows.every(({ tag }) => tag === rig.tag));
    assert.deepEqual(flows.map(({ tenant, class: one, jobs }) => `${tenant} ${one} ${jobs}`).sort(), [
      "a.b_c-d standard 1",
      "red batch 1",
      "red standard 2",
    ]);
  });

  test("a list shows one tenant's jobs, and a tag's name is only ever a tag's name", async () => {
    const rig = open();
    const mine = await rig.admit({ tenant: "mine", tags: { team: "a", constructor: "me" } });
    await rig.admit({ tenant: "theirs", tags: { team: "a" } });
    const idsOf = async (filter: object): Promise<string[]> =>
      (await rig.store.list([rig.tag], { limit: 50, ...filter })).jobs.map(({ id }) => id);
    assert.deepEqual(await idsOf({ tenant: "mine" }), [mine]);
    assert.equal((await idsOf({ tag: "team:a" })).length, 2);
    assert.deepEqual(await idsOf({ tag: "constructor" }), [mine]);
    const odd = await rig.admit({ tenant: "mine", tags: { "env:prod": "x", "a=b": "c:d", env: "a=b:c" } });
    for (const tag of ["env:prod=x", "env:prod:x", "env:prod", "a=b", "a=b:c:d", "a=b=c:d", "env", "env=a=b:c", "env:a=b:c"]) {
      assert.deepEqual(await idsOf({ tag }), [odd], tag);
    }
    for (const tag of ["env:prod=", "env:prod=y", "env=prod=x", "en", "env:", "a=b:c", "a"])
      assert.deepEqual(await idsOf({ tag }), [], tag);
    for (const tag of ["toString", "__proto__", "hasOwnProperty"]) assert.deepEqual(await idsOf({ tag }), [], tag);
  });

  test("the sizes of inputs and outputs are known while they are there", async () => {
    const rig = open();
    const id = await rig.admit({ inputs: [new Uint8Array(1_000), new Uint8Array(500)] });
    assert.deepEqual(await rig.store.sizes(id, 0), { inputs: 1_500 });
    const beginnings = await Promise.all([600, 1_500, 9_000].map((bytes) => rig.store.inputsBeginning(id, bytes)));
    assert.deepEqual(
      beginnings.map((bytes) => bytes?.length),
      [600, 1_500, 1_500],
    );
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    await host.commit(ticket, [succeeded(job!, new Uint8Array(2_500))]);
    assert.deepEqual(await rig.store.sizes(id, 1), { outputs: 2_500 });
    assert.deepEqual(await rig.store.sizes(id, 2), {});
    assert.deepEqual(await rig.store.sizes(newJobId(rig.tag), 1), {});
    assert.equal(await rig.store.inputsBeginning(id, 600), undefined, "they went with the end");
  });

  test("an idempotency key stands for its first job until it is bound anew", async () => {
    const { store, tag } = open();
    const key = { tenant: "t", name: `key-${tag}`, ttlMs: 60_000 };
    const [first, second] = [
      { fingerprint: "f1", jobId: newJobId(tag) },
      { fingerprint: "f2", jobId: newJobId(tag) },
    ];
    assert.deepEqual(await store.bindKey(key, first), first);
    assert.deepEqual(await store.bindKey(key, second), first);
    assert.deepEqual(await store.bindKey({ ...key, tenant: "other" }, second), second, "keys belong to their tenant");
    assert.deepEqual(await store.boundKey(key), first);
    assert.equal(await store.boundKey({ ...key, name: `${key.name}-unknown` }), undefined);
    await store.rebindKey(key, second);
    assert.deepEqual(await store.bindKey(key, first), second);
  });

  test("a queue is remembered until it is empty and forgotten", async () => {
    const rig = open();
    await rig.store.rememberQueue(rig.tag);
    assert.ok((await rig.store.knownQueues()).includes(rig.tag));
    await rig.store.forgetQueue(rig.tag);
    assert.ok(!(await rig.store.knownQueues()).includes(rig.tag));
  });

  test("the store answers, and its clock runs", async () => {
    const { store } = open();
    assert.equal(store.health().answering, true);
    assert.ok(Math.abs(store.nowMs() - Date.now()) < 30_000); // by as much as its answer was held up on its way
  });
}

describe("the Redis store", () => sentences(() => rigs.rig()));
describe("the Redis store on a cluster of three masters", () => sentences(() => clusterRigs.rig()));
describe("the memory store", () => sentences(() => memoryRig()));
