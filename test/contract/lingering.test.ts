/** A commit lets its ticket linger where no job is left, and the claim behind it needs no look of its own: what both stores keep then. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redisRigs } from "../support/file-rigs.ts";
import { type HostJob, type JobRig, lingeringHost, succeeded, type TestHost, timePasses } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();
const lingerMs = 30_000;
/** The look that goes out with a commit. */
const after = { lingerMs, follows: true };

async function running(rig: JobRig, count = 1): Promise<{ host: TestHost; ticket: string; jobs: HostJob[] }> {
  for (let at = 0; at < count; at++) await rig.admit({}, 1, 1);
  const { host, ticket } = await rig.hostWithTicket();
  return { host, ticket, jobs: await host.batch(ticket, { maxItems: count }) };
}

const commit = (host: TestHost, ticket: string, jobs: readonly HostJob[], how: { lingerMs?: number } = { lingerMs }): Promise<string[]> =>
  host.commit(
    ticket,
    jobs.map((job) => succeeded(job)),
    how,
  );

async function ticketOf(rig: JobRig, ticket: string): Promise<{ state: string; leftMs: number }> {
  const { nowMs, tickets } = await rig.audit();
  const { state, untilMs } = tickets.find(({ id }) => id === ticket)!;
  return { state, leftMs: untilMs - nowMs };
}

function sentences(open: () => JobRig): void {
  test("the ticket lingers from the commit of the last job on, and the claim behind it leaves it so", async () => {
    const rig = open();
    const { host, jobs, ticket } = await running(rig);
    assert.deepEqual(await commit(host, ticket, jobs), ["committed"]);
    const before = await ticketOf(rig, ticket);
    assert.equal(before.state, "lingering");
    assert.ok(before.leftMs > lingerMs - 5_000 && before.leftMs <= lingerMs, `${before.leftMs} ms`);
    assert.equal((await host.claim(ticket, { ...after, lingerMs: 2 * lingerMs })).kind, "empty");
    const left = await ticketOf(rig, ticket);
    assert.deepEqual([left.state, left.leftMs <= lingerMs], ["lingering", true], "nothing was looked at, and nothing written");
  });

  test("a job that comes between the two wakes the ticket, and the claim takes it", async () => {
    const rig = open();
    const { host, jobs, ticket } = await running(rig);
    await commit(host, ticket, jobs);
    const id = await rig.admit({}, 1, 1);
    assert.equal((await ticketOf(rig, ticket)).state, "held");
    const next = await host.claim(ticket, after);
    assert.deepEqual(next.kind === "batch" && next.jobs.map((job) => job.id), [id]);
  });

  test("while a job waits, runs or is to be tried again, the ticket is held and the claim looks", async () => {
    const waiting = open();
    const first = await running(waiting);
    const id = await waiting.admit({}, 1, 1);
    await commit(first.host, first.ticket, first.jobs);
    assert.equal((await ticketOf(waiting, first.ticket)).state, "held");
    const next = await first.host.claim(first.ticket, after);
    assert.deepEqual(next.kind === "batch" && next.jobs.map((job) => job.id), [id]);

    const partly = open();
    const second = await running(partly, 2);
    await commit(second.host, second.ticket, second.jobs.slice(0, 1));
    assert.equal((await ticketOf(partly, second.ticket)).state, "held", "one of its own jobs is not settled");
    assert.equal((await second.host.claim(second.ticket, after)).kind, "uncommitted");

    const failed = open();
    const third = await running(failed);
    const [{ id: retried, fence }] = third.jobs as [HostJob];
    const outcome = { id: retried, fence, outcome: "retry" as const, retryDelayMs: 20 };
    assert.deepEqual(await third.host.commit(third.ticket, [outcome], { lingerMs }), ["requeued"]);
    assert.equal((await ticketOf(failed, third.ticket)).state, "held");
    await timePasses(failed, 30);
    assert.equal((await third.host.claim(third.ticket, after)).kind, "batch");
  });

  test("it does not linger unless that is asked for, nor where another host has the ticket", async () => {
    const rig = open();
    const { host, jobs, ticket } = await running(rig, 2);
    await commit(host, ticket, jobs.slice(0, 1), {});
    const other = rig.host("host-2");
    assert.equal(await other.take(ticket), "held");
    await commit(host, ticket, jobs.slice(1));
    assert.equal((await ticketOf(rig, ticket)).state, "held");
    assert.equal((await host.claim(ticket, after)).kind, "not_yours");

    const plain = open();
    const one = await running(plain);
    await commit(one.host, one.ticket, one.jobs, { lingerMs: 0 });
    assert.equal((await ticketOf(plain, one.ticket)).state, "held");
  });

  test("a repeated commit answers as it must, and the ticket lingers anew", async () => {
    const rig = open();
    const { host, jobs, ticket } = await running(rig);
    await commit(host, ticket, jobs);
    assert.deepEqual(await commit(host, ticket, jobs), ["ended"]);
    assert.equal((await ticketOf(rig, ticket)).state, "lingering");
    assert.equal((await host.claim(ticket, after)).kind, "empty");
  });

  test("when it has lingered to its end the claim looks again: a job that came since has another ticket", async () => {
    const rig = open();
    const { host, jobs, ticket } = await running(rig);
    await commit(host, ticket, jobs, { lingerMs: 5 });
    await timePasses(rig, 10);
    const id = await rig.admit({}, 1, 1);
    const claim = await host.claim(ticket, { ...after, lingerMs: 5 });
    assert.deepEqual(claim.kind === "batch" && claim.jobs.map((job) => job.id), [id]);
  });

  test("of a host that lingers a claim that follows no commit looks", async () => {
    const rig = open();
    const { host, ticket } = await lingeringHost(rig);
    assert.equal((await host.claim(ticket, { lingerMs: 0 })).kind, "retired");
  });
}

describe("on Redis", () => sentences(() => rigs.rig()));
describe("in memory", () => sentences(() => memoryRig()));
