/** Jobs of held calls that end well in one commit are kept, and forgotten, together: as long as each was to be, whatever happens meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { clockPasses, eventually, type HostJob, type HostOutcome, type JobRig, succeeded } from "../support/job-rig.ts";

const rigs = await redisRigs();

const held = { held: true, ttlMs: 60_000 } as const;

/** Jobs that were claimed and have ended well in one commit; their ids. */
async function endedTogether(rig: JobRig, jobs: readonly Partial<NewJob>[]): Promise<string[]> {
  const ids = await Promise.all(jobs.map((job) => rig.admit({ ...held, ...job }, 1, jobs.length)));
  const { host, ticket } = await rig.hostWithTicket();
  const batch = await host.batch(ticket, { maxItems: jobs.length });
  assert.ok(batch.length === ids.length && batch.every(({ id }) => ids.includes(id)), "they come in one claim");
  const answers = await host.commit(
    ticket,
    batch.map((job) => succeeded(job)),
  );
  assert.ok(answers.every((answer) => answer === "committed"));
  return ids;
}

const failed = ({ id, fence }: HostJob): HostOutcome => ({
  id,
  fence,
  outcome: "failed",
  error: { code: "run_failed", detail: "no", retryable: false },
});

const stateOf = async (rig: JobRig, id: string): Promise<string | undefined> => {
  const found = await rig.store.read(id);
  return found && "id" in found ? found.state : undefined;
};
const statesOf = (rig: JobRig, ids: readonly string[]) => Promise.all(ids.map((id) => stateOf(rig, id)));
const sweep = (rig: JobRig) => rig.store.sweep(rig.tag, 1, 1);
/** As a coordinator does after a sweep that says so. */
async function forget(rig: JobRig): Promise<{ calls: number }> {
  const { toForget } = await sweep(rig);
  let calls = 0;
  for (let isMore = toForget; isMore; calls++) isMore = await rig.store.forgetEnded(rig.tag);
  return { calls };
}
/** As PTTL answers. */
const immortal = -1;
const lifeOf = (rig: JobRig, id: string): Promise<number> => rigs.redis.pttl(`sy:{${rig.tag}}:job:${id}`);
/** What ended together, by when it is to be forgotten. */
async function entries(rig: JobRig): Promise<{ ids: string[]; untilMs: number }[]> {
  const flat = await rigs.redis.zrange(`sy:{${rig.tag}}:ended`, "0", "-1", "WITHSCORES");
  return flat.flatMap((ids, at) => (at % 2 === 0 ? [{ ids: ids.split(" "), untilMs: Number(flat[at + 1]) }] : []));
}

test("they have no time to live of their own and stand in one entry, as long as each was to be kept; one alone has one", async () => {
  const rig = rigs.rig();
  const ids = await endedTogether(rig, [{}, {}, {}]);
  for (const id of ids) assert.equal(await lifeOf(rig, id), immortal);
  const { jobs, nowMs, immortal: left } = await rig.audit();
  assert.deepEqual(left, []);
  for (const id of ids) assert.ok(jobs.get(id)!.ttlMs > 50_000 && jobs.get(id)!.ttlMs <= 60_000, `${jobs.get(id)!.ttlMs} ms`);
  const [entry, ...others] = await entries(rig);
  assert.deepEqual([others.length, entry!.ids.toSorted()], [0, ids.toSorted()]);
  assert.ok(entry!.untilMs > nowMs);
  const [alone] = (await endedTogether(rig, [{}])) as [string];
  const lifeMs = await lifeOf(rig, alone);
  assert.ok(lifeMs > 50_000 && lifeMs <= 60_000, `${lifeMs} ms`);
  assert.equal((await entries(rig)).length, 1);
});

test("they are forgotten after their time, and none before it, whoever asks", async () => {
  const rig = rigs.rig();
  const early = await endedTogether(rig, [{ ttlMs: 300 }, { ttlMs: 300 }]);
  const late = await endedTogether(rig, [{}, {}]);
  const { untilMs } = (await entries(rig))[0]!;
  await rig.store.forgetEnded(rig.tag);
  const { nowMs, toForget } = await sweep(rig);
  if (nowMs <= untilMs) {
    assert.equal(toForget, false);
    assert.deepEqual(await statesOf(rig, early), ["succeeded", "succeeded"]);
  }
  await clockPasses(rig.store, untilMs);
  await forget(rig);
  assert.deepEqual(await statesOf(rig, early), [undefined, undefined]);
  assert.deepEqual(await statesOf(rig, late), ["succeeded", "succeeded"]);
  assert.equal((await entries(rig)).length, 1);
  assert.equal((await sweep(rig)).toForget, false);
});

test("one commit may hold jobs that are kept for different times, kept ones, and failures", async () => {
  const rig = rigs.rig();
  const wishes = [{ ttlMs: 200 }, { ttlMs: 200 }, { ttlMs: 90_000 }, { ttlMs: 90_000 }, { held: false }, {}, {}];
  const ids = await Promise.all(wishes.map((wish) => rig.admit({ ...held, ...wish, maxAttempts: 1 }, 1, wishes.length)));
  const { host, ticket } = await rig.hostWithTicket();
  const batch = await host.batch(ticket, { maxItems: wishes.length });
  await host.commit(
    ticket,
    batch.map((job) => (job.id === ids[5] ? failed(job) : succeeded(job))),
  );
  const standing = await entries(rig);
  assert.deepEqual(
    standing.map((entry) => entry.ids.toSorted()),
    [ids.slice(0, 2).toSorted(), ids.slice(2, 4).toSorted()],
  );
  await clockPasses(rig.store, standing[0]!.untilMs);
  await forget(rig);
  const kept = ["succeeded", "succeeded", "succeeded", "failed", "succeeded"];
  assert.deepEqual(await statesOf(rig, ids), [undefined, undefined, ...kept]);
  assert.deepEqual((await rig.audit()).immortal, []);
});

test("outputs that stand in their records are each their own job's, of any bytes", async () => {
  const rig = rigs.rig();
  const ids = await Promise.all([0, 1, 2].map(() => rig.admit(held, 1, 3)));
  const { host, ticket } = await rig.hostWithTicket();
  const batch = await host.batch(ticket, { maxItems: 3 });
  const bytesOf = (id: string): Buffer => Buffer.from(`\0\n${id}\r\n\xff`, "latin1");
  await host.commit(
    ticket,
    batch.map((job) => succeeded(job, bytesOf(job.id))),
  );
  assert.equal((await entries(rig)).length, 1);
  for (const { fence, id } of batch) assert.deepEqual(Buffer.from((await rig.store.outputs(id, fence))!), bytesOf(id));
  assert.equal(ids.length, batch.length);
});

test("all that is over is forgotten, however much that is, in steps", async () => {
  const rig = rigs.rig();
  const many: string[] = [];
  for (let commit = 0; commit < 13; commit++) many.push(...(await endedTogether(rig, Array(100).fill({ ttlMs: 1_000 }))));
  const stood = await entries(rig);
  assert.equal(stood.flatMap(({ ids }) => ids).length, many.length);
  await clockPasses(rig.store, stood.at(-1)!.untilMs);
  assert.ok((await forget(rig)).calls >= 4);
  assert.deepEqual(await entries(rig), []);
  assert.ok((await statesOf(rig, many)).every((state) => state === undefined));
});

test("what is kept on after its end stays when those beside it are forgotten, whenever that is, and ends by its own time", async () => {
  const rig = rigs.rig();
  const [spared, other] = (await endedTogether(rig, [{ ttlMs: 200 }, { ttlMs: 200 }])) as [string, string];
  const { untilMs } = (await entries(rig))[0]!;
  await rig.store.keep(spared, 600_000);
  assert.equal(await rigs.redis.pttl(`sy:{${rig.tag}}:spared`), immortal);
  await clockPasses(rig.store, untilMs);
  await forget(rig);
  assert.deepEqual(await statesOf(rig, [spared, other]), ["succeeded", undefined]);
  const lifeMs = await lifeOf(rig, spared);
  assert.ok(lifeMs > 500_000 && lifeMs <= 600_000, `${lifeMs} ms`);
  assert.equal(await rigs.redis.exists(`sy:{${rig.tag}}:spared`), 0, "nothing is noted of it any more");
});

test("until they are forgotten they are what they have ended as, and an id is not admitted again", async () => {
  const rig = rigs.rig();
  const jobs = [0, 1].map(() => rig.job(held));
  await Promise.all(jobs.map((job) => rig.admitted(job, { batchItems: 2 })));
  const { host, ticket } = await rig.hostWithTicket();
  const batch = await host.batch(ticket, { maxItems: 2 });
  const outcomes = batch.map((job) => succeeded(job));
  await host.commit(ticket, outcomes);
  assert.deepEqual(await host.commit(ticket, outcomes), ["ended", "ended"]);
  const [{ id }] = jobs as [NewJob];
  const again = await rig.admitted(jobs[0]!);
  assert.deepEqual([again.answer, again.state], ["existing", "succeeded"]);
  const cancelled = await rig.store.cancel(id);
  assert.deepEqual([cancelled?.moved, cancelled?.record.state], [false, "succeeded"]);
  assert.deepEqual((await rig.audit()).immortal, []);
});

test("a queue is not forgotten while they stand in it, and is named as one that keeps them", async () => {
  const rig = rigs.rig();
  const keeping = (): Promise<string[]> => rig.store.keepingEnded([rig.tag, rigs.rig().tag]);
  await rig.store.rememberQueue(rig.tag);
  assert.deepEqual(await keeping(), []);
  await endedTogether(rig, [{ ttlMs: 100 }, { ttlMs: 100 }]);
  assert.deepEqual(await keeping(), [rig.tag]);
  assert.deepEqual(await rig.store.openQueues([rig.tag], "listed"), []);
  await rig.store.forgetQueue(rig.tag);
  assert.ok((await rig.store.knownQueues()).includes(rig.tag));
  await eventually("they are forgotten", async () => {
    await forget(rig);
    return (await keeping()).length === 0;
  });
  await rig.store.forgetQueue(rig.tag);
  assert.ok(!(await rig.store.knownQueues()).includes(rig.tag));
});
