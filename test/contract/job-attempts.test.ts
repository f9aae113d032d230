/** What stays of attempts after which their job waited again. The same sentences on both stores. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keys } from "@switchyard/protocol/redis";
import { redisRigs } from "../support/file-rigs.ts";
import { type JobRig, succeeded, timePasses } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const dayMs = 86_400_000;
const runError = { code: "run_failed", detail: 'the run threw: "no\nmemory"', retryable: true };

const rigs = await redisRigs();

/** A ticket of the queue that nobody holds. */
async function freshTicket(rig: JobRig): Promise<string> {
  const { tickets } = await rig.store.sweep(rig.tag, 1, 1);
  return tickets.at(-1) ?? rig.offered.at(-1)!;
}

/** Claims the one job that waits, and hands it back unrun. */
async function handBack(rig: JobRig, id: string, fence: number): Promise<void> {
  const host = rig.host();
  const ticket = await freshTicket(rig);
  assert.equal(await host.take(ticket), "held");
  assert.deepEqual(
    (await host.batch(ticket)).map((job) => [job.id, job.fence]),
    [[id, fence]],
  );
  assert.deepEqual(await host.commit(ticket, [{ id, fence, outcome: "back" }], { runMs: 0 }), ["requeued"]);
  for (const issued of await host.release(ticket)) rig.offers.offer(rig.tag, issued);
}

function sentences(open: () => JobRig): void {
  test("an attempt that fails, is handed back, loses its host or its claim is kept with where, when and why", async () => {
    const rig = open();
    const id = await rig.admit({ maxAttempts: 9 });
    const { host, ticket } = await rig.hostWithTicket("host a/1");
    const [first] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ ...first!, outcome: "retry", error: runError, retryDelayMs: 0 }], { runMs: 12.5 }), [
      "requeued",
    ]);
    await host.release(ticket);
    await handBack(rig, id, 2);
    const dead = rig.host("host-dead");
    const lost = await freshTicket(rig);
    await dead.take(lost);
    await dead.batch(lost);
    for (const issued of (await rig.store.takeBack(rig.tag, dead.incarnation, 1, 1)).tickets) rig.offers.offer(rig.tag, issued);
    const deaf = rig.host("host-deaf");
    const other = await freshTicket(rig);
    await deaf.take(other);
    await deaf.batch(other);
    assert.equal(await rig.store.returnClaim(rig.tag, deaf.incarnation, 1), 1);
    const attempts = await rig.store.attempts(id);
    assert.deepEqual(
      attempts.map(({ attempt, batchItems, end, error, fence, hostId, runMs }) => ({
        attempt,
        batchItems,
        end,
        error,
        fence,
        hostId,
        runMs,
      })),
      [
        { attempt: 1, batchItems: 1, end: "failed", error: runError, fence: 1, hostId: "host a/1", runMs: 12.5 },
        { attempt: 2, batchItems: 1, end: "handed_back", error: undefined, fence: 2, hostId: "host-1", runMs: 0 },
        { attempt: 2, batchItems: 0, end: "host_lost", error: undefined, fence: 3, hostId: "host-dead", runMs: 0 },
        { attempt: 3, batchItems: 0, end: "claim_lost", error: undefined, fence: 4, hostId: "host-deaf", runMs: 0 },
      ],
    );
    const { createdMs } = await rig.record(id);
    let before = createdMs;
    for (const { endedMs, startedMs } of attempts) {
      assert.ok(startedMs >= before && endedMs >= startedMs, JSON.stringify(attempts));
      before = endedMs;
    }
  });

  test("a job that ends with its first attempt leaves nothing of the kind", async () => {
    const rig = open();
    const ids = [await rig.admit(), await rig.admit()];
    const { host, ticket } = await rig.hostWithTicket();
    const [first, second] = await host.batch(ticket);
    await host.commit(ticket, [succeeded(first!), { ...second!, outcome: "failed", error: runError }]);
    for (const id of ids) assert.deepEqual(await rig.store.attempts(id), []);
    assert.deepEqual(await rig.store.attempts(`${rig.tag}-none`), []);
  });

  test("an attempt after which the job has ended is the record's alone", async () => {
    const rig = open();
    const id = await rig.admit({ maxAttempts: 1 });
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ ...job!, outcome: "retry", error: runError, retryDelayMs: 0 }]), ["failed"]);
    assert.deepEqual(await rig.store.attempts(id), []);
    assert.deepEqual([(await rig.record(id)).hostId, (await rig.record(id)).error], ["host-1", runError]);
  });

  test("what is sent twice is kept once", async () => {
    const rig = open();
    const id = await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    const retry = { ...job!, outcome: "retry" as const, error: runError, retryDelayMs: 0 };
    assert.deepEqual(await host.commit(ticket, [retry]), ["requeued"]);
    assert.deepEqual(await host.commit(ticket, [retry]), ["stale"]);
    for (let at = 0; at < 2; at++) await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.equal((await rig.store.attempts(id)).length, 1);
  });

  test("of a job that is handed back again and again the last 32 are kept", async () => {
    const rig = open();
    const id = await rig.admit();
    for (let fence = 1; fence <= 35; fence++) await handBack(rig, id, fence);
    const fences = (await rig.store.attempts(id)).map(({ fence }) => fence);
    assert.deepEqual([fences.length, fences[0], fences.at(-1)], [32, 4, 35]);
  });
}

describe("the Redis store", () => sentences(() => rigs.rig()));
describe("the memory store", () => sentences(() => memoryRig()));

describe("in Redis", () => {
  const listOf = (rig: JobRig, id: string): string => `${keys.base(rig.tag)}attempts:${id}`;

  async function failedOnce(rig: JobRig, wishes: Parameters<JobRig["admit"]>[0], error = runError): Promise<string> {
    const id = await rig.admit(wishes);
    const { host, ticket } = await rig.hostWithTicket();
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ ...job!, outcome: "retry", error, retryDelayMs: 0 }]), ["requeued"]);
    return id;
  }

  test("they live as long as their record may, and no longer", async () => {
    const rig = rigs.rig();
    const id = await failedOnce(rig, { timeoutMs: 30_000, ttlMs: 60_000 });
    const kept = await rigs.redis.pttl(listOf(rig, id));
    assert.ok(kept > 90_000 && kept <= 150_000, `${kept} ms`);
    const held = await failedOnce(rigs.rig(), { timeoutMs: 30_000, ttlMs: 1_000, held: true });
    const list = `${keys.base(held.slice(0, held.lastIndexOf("-")))}attempts:${held}`;
    assert.ok((await rigs.redis.pttl(list)) <= 91_000);
  });

  test("a held job that is kept keeps them", async () => {
    const rig = rigs.rig();
    const id = await failedOnce(rig, { timeoutMs: 30_000, ttlMs: 1_000, held: true });
    await rig.store.keep(id, 3_600_000);
    assert.ok((await rigs.redis.pttl(listOf(rig, id))) > 3_600_000);
  });

  test("those of a dead letter live a day, or until it is discarded", async () => {
    const rig = rigs.rig();
    const id = await failedOnce(rig, { maxAttempts: 2, timeoutMs: 30_000, ttlMs: 5_000 });
    await timePasses(rig, 1);
    const host = rig.host();
    const ticket = await freshTicket(rig);
    await host.take(ticket);
    const [job] = await host.batch(ticket);
    assert.deepEqual(await host.commit(ticket, [{ ...job!, outcome: "retry", error: runError, retryDelayMs: 0 }]), ["failed"]);
    const kept = await rigs.redis.pttl(listOf(rig, id));
    assert.ok(kept > dayMs - 60_000, `${kept} ms`);
    assert.equal(await rig.store.discard(id), true);
    assert.ok((await rigs.redis.pttl(listOf(rig, id))) <= 5_000);
  });

  test("a very long error is cut, and still says what it is", async () => {
    const rig = rigs.rig();
    const id = await failedOnce(rig, {}, { ...runError, detail: `the run threw ${"ü".repeat(50_000)}` });
    const [attempt] = await rig.store.attempts(id);
    assert.deepEqual([attempt?.error?.code, attempt?.error?.retryable], ["run_failed", true]);
    assert.match(attempt?.error?.detail ?? "", /^the run threw ü+.*…$/);
    assert.ok((await rigs.redis.memory("USAGE", listOf(rig, id)))! < 2_000);
  });
});
