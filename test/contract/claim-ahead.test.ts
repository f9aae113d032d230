/** A host may claim the next batch while it still runs one: what both stores keep then, and what a host that died, or a lost reply, leaves. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redisRigs } from "../support/file-rigs.ts";
import { clockPasses, type HostJob, type JobRig, succeeded, type TestHost } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();
const ahead = { isAhead: true, maxItems: 2 };

interface Scene {
  rig: JobRig;
  host: TestHost;
  ticket: string;
  ids: string[];
}

/** So many jobs, in order, of which the first two are claimed. */
async function running(rig: JobRig, count: number): Promise<Scene & { first: HostJob[] }> {
  const ids: string[] = [];
  for (let at = 0; at < count; at++) ids.push(await rig.admit({ latestStartMs: 20_000 + at }, 1, 2));
  const { host, ticket } = await rig.hostWithTicket();
  const first = await host.batch(ticket, { maxItems: 2 });
  assert.deepEqual(idsOf(first), ids.slice(0, 2));
  return { rig, host, ticket, ids, first };
}

const idsOf = (jobs: readonly { id: string }[]): string[] => jobs.map(({ id }) => id);
const commit = (host: TestHost, ticket: string, jobs: readonly HostJob[]): Promise<string[]> =>
  host.commit(
    ticket,
    jobs.map((job) => succeeded(job)),
  );
const ticketOf = async ({ rig, ticket }: Scene): Promise<string | undefined> =>
  (await rig.audit()).tickets.find(({ id }) => id === ticket)?.state;
/** Incarnation and sequence of each claim, as a sweep finds them. */
const claimsOf = async ({ rig }: Scene): Promise<number[]> => {
  const { claims, figures } = await rig.store.sweep(rig.tag, 1, 2);
  const { claims: audited } = await rig.audit();
  assert.equal(figures.running, audited.flatMap(({ jobs }) => jobs).length);
  return claims.map(({ sequence }) => sequence).sort();
};

function sentences(open: () => JobRig): void {
  test("one batch may be claimed ahead of the end of another, and only by who says so", async () => {
    const scene = await running(open(), 7);
    const { first, host, ids, rig, ticket } = scene;
    assert.equal((await host.claim(ticket)).kind, "uncommitted");
    const second = await host.batch(ticket, ahead);
    assert.deepEqual(idsOf(second), ids.slice(2, 4));
    assert.equal((await host.claim(ticket, ahead)).kind, "uncommitted", "not two");
    assert.equal((await host.claim(ticket)).kind, "uncommitted");
    assert.deepEqual(await claimsOf(scene), [1, 2]);
    assert.deepEqual(await commit(host, ticket, first), ["committed", "committed"]);
    assert.equal(await ticketOf(scene), "busy", "its host runs the second");
    assert.deepEqual(await claimsOf(scene), [2]);
    assert.equal((await host.claim(ticket)).kind, "uncommitted");
    const third = await host.batch(ticket, ahead);
    assert.deepEqual(idsOf(third), ids.slice(4, 6));
    for (const batch of [second, third]) assert.deepEqual(await commit(host, ticket, batch), ["committed", "committed"]);
    assert.equal(await ticketOf(scene), "held");
    assert.deepEqual(idsOf(await host.batch(ticket, { maxItems: 2 })), ids.slice(6), "with nothing in hand it claims as ever");
    assert.deepEqual(await rig.audit().then(({ claims }) => claims.length), 1);
  });

  test("they may be committed in any order", async () => {
    const scene = await running(open(), 4);
    const { first, host, ticket } = scene;
    const second = await host.batch(ticket, ahead);
    assert.deepEqual(await commit(host, ticket, second), ["committed", "committed"]);
    assert.deepEqual(await claimsOf(scene), [1]);
    assert.equal((await host.claim(ticket)).kind, "uncommitted");
    assert.deepEqual(await commit(host, ticket, first), ["committed", "committed"]);
    assert.deepEqual(await claimsOf(scene), []);
    assert.equal((await host.claim(ticket)).kind, "empty");
  });

  test("a claim ahead that finds nothing leaves its ticket as it is", async () => {
    const scene = await running(open(), 2);
    const { host, ticket } = scene;
    assert.equal((await host.claim(ticket, { ...ahead, lingerMs: 0 })).kind, "empty");
    assert.equal(await ticketOf(scene), "busy");
    await scene.rig.admit({}, 1, 2);
    const wait = { ...ahead, maxItems: 4, delayMs: 20_000, overheadMs: 0 };
    assert.equal((await host.claim(ticket, wait)).kind, "empty", "what waits for a fuller batch is not waited for");
    assert.equal(await ticketOf(scene), "busy");
  });

  test("a job that would be late after the run at hand keeps its place, unless its deadline has passed", async () => {
    const scene = await running(open(), 2);
    const { first, host, rig, ticket } = scene;
    const job = await rig.admit({ latestStartMs: 1_000, timeoutMs: 20_000 }, 1, 2);
    const other = await rig.admit({ latestStartMs: 25_000, timeoutMs: 600_000 }, 1, 2);
    const ladders = new Map([[0, [[1, 10]] as [number, number][]]]);
    assert.deepEqual(idsOf(await host.batch(ticket, { ...ahead, overheadMs: 60_000, ladders })), [other], "others are taken");
    assert.equal((await rig.record(job)).state, "queued", "another host may be free sooner");
    await commit(host, ticket, first);
    const over = await rig.admit({ latestStartMs: 1, timeoutMs: 2 }, 1, 2);
    await clockPasses(rig.store, rig.store.nowMs() + 2);
    assert.deepEqual(idsOf(await host.batch(ticket, { ...ahead, ladders })), [job]);
    assert.equal((await rig.record(over)).state, "expired");
  });

  test("a repeat is answered its own batch, before and after the commit of the other", async () => {
    const scene = await running(open(), 6);
    const { first, host, ticket } = scene;
    const second = await host.batch(ticket, ahead);
    assert.deepEqual(await host.batch(ticket, { ...ahead, sequence: 2 }), second);
    assert.equal((await host.claim(ticket, { ...ahead, sequence: 1 })).kind, "stale_sequence");
    assert.deepEqual(await commit(host, ticket, first), ["committed", "committed"]);
    assert.deepEqual(await host.batch(ticket, { ...ahead, sequence: 2 }), second, "its host may not have had the reply yet");
    assert.deepEqual(await host.commit(ticket, [succeeded(second[0]!)]), ["committed"]);
    assert.deepEqual(await host.batch(ticket, { ...ahead, sequence: 2 }), second.slice(1));
    assert.deepEqual(await host.commit(ticket, [succeeded(second[1]!)]), ["committed"]);
    assert.equal((await host.claim(ticket, { ...ahead, sequence: 2 })).kind, "stale_sequence");
  });

  test("a claim that its host does not know goes back alone", async () => {
    for (const sequence of [1, 2]) {
      const scene = await running(open(), 4);
      const { first, host, ids, rig, ticket } = scene;
      const second = await host.batch(ticket, ahead);
      assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 7), 0);
      assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, sequence), 2);
      assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, sequence), 0);
      const [lost, kept] = sequence === 1 ? [first, second] : [second, first];
      assert.deepEqual(await claimsOf(scene), [3 - sequence]);
      assert.deepEqual(await commit(host, ticket, kept), ["committed", "committed"]);
      assert.deepEqual(await commit(host, ticket, lost), ["stale", "stale"]);
      if (sequence === 2) assert.equal((await host.claim(ticket, { ...ahead, sequence: 2 })).kind, "stale_sequence", "too late");
      const again = await host.batch(ticket, { maxItems: 2, sequence: 3 + (sequence - 1) });
      assert.deepEqual([idsOf(again), again.map(({ attempt }) => attempt)], [ids.slice(2 * sequence - 2, 2 * sequence), [1, 1]]);
    }
  });

  test("a host that is told that it lost the claim ahead may claim ahead again", async () => {
    const scene = await running(open(), 4);
    const { host, rig, ticket } = scene;
    const second = await host.batch(ticket, ahead);
    assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, 2), 2);
    const again = await host.batch(ticket, { ...ahead, sequence: 3 });
    assert.deepEqual([idsOf(again), again.map(({ fence }) => fence)], [idsOf(second), [2, 2]]);
    assert.deepEqual(await claimsOf(scene), [1, 3]);
  });

  test("when its host dies both go back, under fences that are over", async () => {
    const { first, host, ids, rig, ticket } = await running(open(), 4);
    const second = await host.batch(ticket, ahead);
    const { returned, tickets } = await rig.store.takeBack(rig.tag, host.incarnation, 1, 2);
    assert.equal(returned, 4);
    assert.deepEqual(await commit(host, ticket, [...first, ...second]), ["barred"]);
    const other = rig.host("host-2");
    await other.take(tickets[0]!);
    const [job] = await other.batch(tickets[0]!, { maxItems: 2 });
    assert.deepEqual([job!.id, job!.fence, job!.attempt], [ids[0], 2, 2]);
  });

  test("a cancelled job leaves the claim that it is in, whichever that is", async () => {
    const scene = await running(open(), 4);
    const { first, host, rig, ticket } = scene;
    const second = await host.batch(ticket, ahead);
    for (const { id } of [first[0]!, second[0]!]) assert.equal((await rig.store.cancel(id))?.moved, true);
    assert.deepEqual(await commit(host, ticket, first), ["ended", "committed"]);
    assert.deepEqual(await claimsOf(scene), [2]);
    assert.deepEqual(await commit(host, ticket, second), ["ended", "committed"]);
    assert.deepEqual(await claimsOf(scene), []);
  });

  test("a job that took a host down is not claimed ahead, nor is anything while it runs, and nothing overtakes it", async () => {
    const rig = open();
    const suspect = await rig.admit({ latestStartMs: 10_000, maxAttempts: 9 });
    const { host: dead, ticket: first } = await rig.hostWithTicket();
    assert.deepEqual(idsOf(await dead.batch(first)), [suspect]);
    const innocent: string[] = [];
    for (let at = 0; at < 3; at++) innocent.push(await rig.admit({ latestStartMs: 9_000 + at, maxAttempts: 9 }, 1, 2));
    innocent.push(await rig.admit({ latestStartMs: 20_000, maxAttempts: 9 }, 1, 2));
    const [ticket] = (await rig.store.takeBack(rig.tag, dead.incarnation, 1, 2)).tickets;
    const host = rig.host("host-2");
    await host.take(ticket!);
    const running = await host.batch(ticket!, { maxItems: 2 });
    const next = await host.batch(ticket!, { ...ahead, maxItems: 9 });
    assert.deepEqual([idsOf(running), idsOf(next)], [innocent.slice(0, 2), innocent.slice(2, 3)], "its turn would be next");
    await commit(host, ticket!, running);
    assert.equal((await host.claim(ticket!, ahead)).kind, "empty");
    await commit(host, ticket!, next);
    assert.deepEqual(idsOf(await host.batch(ticket!, { maxItems: 9 })), [suspect]);
    assert.equal((await host.claim(ticket!, ahead)).kind, "empty", "it dies alone, if it does");
  });
}

describe("on Redis", { concurrency: false }, () => sentences(() => rigs.rig()));
describe("in memory", { concurrency: false }, () => sentences(memoryRig));
