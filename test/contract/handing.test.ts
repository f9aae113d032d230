/**
 * A single job that finds nothing waiting is claimed for a host that lingers in the step that admits it. On Redis only: the memory store hands nothing over.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { traceWordOf } from "@switchyard/protocol";
import { channels, keys } from "@switchyard/protocol/redis";
import { heardOf } from "../../worker/src/runner/claims.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { eventually, type HostJob, type JobRig, succeeded, type TestHost, timePasses } from "../support/job-rig.ts";

const rigs = await redisRigs();
const lingerMs = 30_000;
const neededMs = 20;

interface Scene {
  rig: JobRig;
  host: TestHost;
  ticket: string;
  /** What the host hears. */
  messages: Buffer[];
}

/** A host that has run a job and lingers, with this for its next claim. */
async function lingering(how: { mostItems?: number; lingerMs?: number; traced?: boolean } = {}): Promise<Scene> {
  const rig = rigs.rig();
  await rig.admit({}, 1, 1);
  const { host, ticket } = await rig.hostWithTicket();
  const messages: Buffer[] = [];
  const listener = rigs.connection(`listener-${host.incarnation}`);
  listener.on("messageBuffer", (_channel: Buffer, message: Buffer) => messages.push(message));
  await listener.subscribe(channels.wake(host.incarnation));
  await settle({ rig, host, ticket, messages }, await host.batch(ticket), how);
  return { rig, host, ticket, messages };
}

const settle = async (
  { host, ticket }: Scene,
  jobs: readonly HostJob[],
  how: { mostItems?: number; lingerMs?: number; traced?: boolean } = {},
) => {
  const standing = `${host.sequence + 1} ${host.hostId} 500 ${how.mostItems ?? 16} ${neededMs} ${how.traced ? "traced" : "-"}`;
  assert.deepEqual(
    await host.commit(
      ticket,
      jobs.map((job) => succeeded(job)),
      { lingerMs: how.lingerMs ?? lingerMs, standing },
    ),
    jobs.map(() => "committed"),
  );
};

const admitted = { matchingHosts: 1, batchItems: 1, mostWaiting: Number.POSITIVE_INFINITY, isLight: true };

/** What the host has heard since it lingers, in the place of wake-ups. */
async function heard({ messages }: Scene, count = 1): Promise<ReturnType<typeof heardOf>[]> {
  await eventually("the host hears of it", () => messages.length >= count);
  return messages.map(heardOf);
}

const ticketOf = async ({ rig, ticket }: Scene) => (await rig.audit()).tickets.find(({ id }) => id === ticket);
/** A sweep where another host could take what this one has in hand. */
const swept = ({ host, rig }: Pick<Scene, "host" | "rig">) => rig.store.sweep(rig.tag, 2, 1, [host.incarnation, "another"]);
const stateOf = async ({ rig }: Scene, id: string): Promise<string> => (await rig.record(id)).state;

test("the job runs as soon as it is admitted, under the claim that its host would have made next, and the host hears all of it", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const input = Buffer.from("one input");
  const id = await rig.admit({ inputs: [input], class: "interactive", ttlMs: 7_000 });
  const record = await rig.record(id);
  assert.deepEqual([record.state, record.fence, record.attempt, record.revision, record.hostId], ["running", 1, 1, 2, host.hostId]);
  assert.equal(rig.offered.length, 1, "no other ticket was issued");
  const [{ handed, tag } = {}] = await heard(scene);
  const { batch, ticketId } = handed!;
  assert.deepEqual([tag, handed!.tag, ticketId, batch.sequence], [rig.tag, rig.tag, ticket, 2]);
  assert.deepEqual(batch.inputs, [input]);
  const [job] = batch.jobs;
  assert.deepEqual(
    [job!.id, job!.class, job!.fence, job!.attempt, job!.createdMs, job!.deadlineMs, job!.ttlMs],
    [id, "interactive", 1, 1, batch.nowMs, batch.nowMs + 30_000, 7_000],
  );
  const again = await host.batch(ticket);
  assert.deepEqual(again, [Object.fromEntries(Object.keys(again[0]!).map((key) => [key, job![key as keyof typeof job]]))]);
});

test("its commit is like any other, and the next job is handed over again", async () => {
  const scene = await lingering();
  const { host, rig } = scene;
  for (let turn = 1; turn <= 3; turn++) {
    const id = await rig.admit();
    const [{ batch } = {}] = (await heard(scene, turn)).slice(-1).map(({ handed }) => handed!);
    assert.deepEqual([batch!.sequence, batch!.jobs[0]!.id], [turn + 1, id]);
    host.sequence = batch!.sequence;
    await settle(scene, batch!.jobs as HostJob[]);
    assert.equal(await stateOf(scene, id), "succeeded");
    assert.equal((await ticketOf(scene))?.state, "lingering");
  }
  const { claims, due, order } = await rig.audit();
  assert.deepEqual([claims.flatMap(({ jobs }) => jobs), due, Object.values(order).flat()], [[], [], []]);
});

test("inputs that are not small do not come with it", async () => {
  const scene = await lingering();
  await scene.rig.admit({ inputs: [Buffer.alloc(16_384, 1)] });
  await scene.rig.store.cancel((await heard(scene))[0]!.handed!.batch.jobs[0]!.id);
  assert.equal((await heard(scene))[0]!.handed!.batch.inputs?.[0]?.length, 16_384);
  const larger = await lingering();
  await larger.rig.admit({ inputs: [Buffer.alloc(16_385, 1)] });
  assert.equal((await heard(larger))[0]!.handed!.batch.inputs, undefined);
});

test("where a trace is to be told it comes with it", async () => {
  const context = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7", isSampled: true };
  const trace = { context, parentSpanId: "b7ad6b7169203331" };
  const scene = await lingering({ traced: true });
  await scene.rig.admit({ trace });
  assert.equal((await heard(scene))[0]!.handed!.batch.jobs[0]!.trace, traceWordOf(context));
  const untold = await lingering();
  await untold.rig.admit({ trace });
  assert.equal((await heard(untold))[0]!.handed!.batch.jobs[0]!.trace, undefined);
});

test("who lingers is woken, as ever, where the job is not for a single claim now", async () => {
  const several = await lingering();
  await Promise.all([several.rig.admit(), several.rig.admit()]);
  assert.deepEqual(await heard(several), [{ tag: several.rig.tag }], "two came together");

  const late = await lingering();
  await late.rig.admit({ timeoutMs: neededMs - 1 });
  assert.deepEqual(await heard(late), [{ tag: late.rig.tag }], "it could not end in time");

  const large = await lingering({ mostItems: 2 });
  await large.rig.admit({ items: 3 });
  assert.deepEqual(await heard(large), [{ tag: large.rig.tag }], "it is more than the host would claim");

  const once = await lingering();
  await once.rig.admit({ maxAttempts: 1 });
  assert.deepEqual(await heard(once), [{ tag: once.rig.tag }], "a host that died could not be told from one that has run it");

  const plain = await lingering();
  await plain.rig.admit();
  const [{ handed } = {}] = await heard(plain);
  plain.host.sequence = handed!.batch.sequence;
  await plain.host.commit(plain.ticket, [succeeded(handed!.batch.jobs[0]!)], { lingerMs });
  const second = await plain.rig.admit();
  assert.deepEqual((await heard(plain, 2))[1], { tag: plain.rig.tag }, "nothing stood for its next claim");
  assert.equal(await stateOf(plain, second), "queued");
});

test("no job overtakes those that wait", async () => {
  const scene = await lingering();
  await Promise.all([scene.rig.admit(), scene.rig.admit()]);
  const tickets = `${keys.base(scene.rig.tag)}tickets`;
  const till = (await scene.rig.audit()).nowMs + lingerMs;
  const standing = `${scene.host.sequence + 1} ${scene.host.hostId} 500 16 ${neededMs} -`;
  await rigs.redis.hset(tickets, scene.ticket, `lingering ${scene.host.incarnation} ${till} ${standing}`);
  assert.equal(await stateOf(scene, await scene.rig.admit()), "queued");
});

test("a claim that has gone back in its host's name goes back once", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const id = await rig.admit();
  assert.equal(await rig.store.returnClaim(rig.tag, host.incarnation, host.sequence + 1), 1);
  await timePasses(rig, neededMs + 100);
  assert.equal((await host.claim(ticket)).kind, "stale_sequence");
  for (let at = 0; at < 2; at++) {
    await swept(scene);
    await timePasses(rig, 30);
  }
  assert.equal(await stateOf(scene, id), "queued");
  const { claims } = await rig.audit();
  assert.deepEqual(
    claims.flatMap(({ jobs }) => jobs),
    [],
  );
  assert.equal(await rigs.redis.hget(`${keys.base(rig.tag)}claims`, host.incarnation).then((entry) => entry?.split(" ")[0]), "3");
});

test("nothing is handed to a host whose linger is over, nor under a claim that it has made meanwhile", async () => {
  const over = await lingering({ lingerMs: 5 });
  await timePasses(over.rig, 10);
  assert.equal(await stateOf(over, await over.rig.admit()), "queued");

  const busy = await lingering();
  await rigs.redis.hset(`${keys.base(busy.rig.tag)}claims`, busy.host.incarnation, "2 1 told");
  assert.equal(await stateOf(busy, await busy.rig.admit()), "queued", "that sequence was used");
});

test("a job for which there is no room is refused, and not handed over", async () => {
  const scene = await lingering();
  const job = scene.rig.job();
  assert.equal((await scene.rig.store.admit(job, { ...admitted, mostWaiting: 0 })).answer, "full");
  assert.equal(await scene.rig.store.read(job.id), undefined);
  assert.equal((await ticketOf(scene))?.state, "lingering");
  assert.deepEqual([...(await scene.rig.store.inputsKept([job.id]))], []);
});

test("an admission that is repeated hands nothing over again", async () => {
  const scene = await lingering();
  const job = scene.rig.job();
  assert.equal((await scene.rig.store.admit(job, admitted)).answer, "admitted");
  const again = await scene.rig.store.admit(job, admitted);
  assert.deepEqual([again.answer, again.answer === "existing" && again.state], ["existing", "running"]);
  await rigs.redis.publish(channels.wake(scene.host.incarnation), "last");
  assert.deepEqual(
    (await heard(scene, 2)).map(({ handed, tag }) => (handed ? handed.batch.jobs[0]!.id : tag)),
    [job.id, "last"],
  );
});

test("a host that has not heard finds it at the end of its linger, and it is its from then on", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const id = await rig.admit();
  assert.equal((await ticketOf(scene))?.state, "handed");
  const [job] = await host.batch(ticket, { lingerMs: 0, busyMs: 5_000 });
  assert.equal(job!.id, id);
  assert.equal((await ticketOf(scene))?.state, "busy");
  for (let at = 0; at < 2; at++) {
    await timePasses(rig, neededMs + 100);
    await swept(scene);
  }
  assert.equal(await stateOf(scene, id), "running");
  assert.deepEqual(await host.commit(ticket, [succeeded(job!)]), ["committed"]);
});

test("a host that died before it heard costs no more than one that was woken: the next sweep gives the job to another", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const id = await rig.admit({ timeoutMs: 60_000, tenant: "other", tenantWeight: 3 });
  const [dead] = (await heard(scene))[0]!.handed!.batch.jobs as HostJob[];
  assert.equal(await host.renew(ticket), "renewed");
  const looks = [await swept(scene)];
  await timePasses(rig, neededMs + 60);
  for (let at = 0; at < 2; at++) looks.push(await swept(scene));
  const told = looks.map(({ doubted, returned, tickets }) => [doubted, returned, tickets.length]);
  assert.deepEqual(told, [
    [0, 0, 0],
    [1, 0, 0],
    [1, 0, 0],
  ]);
  assert.equal(await stateOf(scene, id), "running", "where the store stood still its commit comes now");
  await timePasses(rig, 25);
  const after = await swept(scene);
  assert.deepEqual([after.doubted, after.returned], [0, 1]);
  assert.equal(after.tickets.length, 1);
  const record = await rig.record(id);
  assert.deepEqual([record.state, record.attempt], ["queued", 1], "it counts as its host's death");
  assert.deepEqual(
    (await rig.store.attempts(id)).map(({ end }) => end),
    ["host_lost"],
  );
  const { returned } = await rig.store.takeBack(rig.tag, host.incarnation, 2, 1);
  assert.deepEqual([returned, (await rig.record(id)).attempt], [0, 1], "once");
  assert.equal(await rigs.redis.hget(`${keys.base(rig.tag)}flows`, "standard:other"), "3");
  const other = rig.host("host-2");
  await other.take(after.tickets[0]!);
  const [job] = await other.batch(after.tickets[0]!);
  assert.deepEqual([job!.id, job!.fence, job!.attempt], [id, 2, 2]);
  assert.deepEqual(await host.commit(ticket, [succeeded(dead!)]), ["barred"]);
  assert.deepEqual(await other.commit(after.tickets[0]!, [succeeded(job!)]), ["committed"]);
});

test("what is committed while it is doubted stays", async () => {
  const scene = await lingering();
  const id = await scene.rig.admit();
  await timePasses(scene.rig, neededMs + 60);
  assert.equal((await swept(scene)).doubted, 1);
  const [{ handed } = {}] = await heard(scene);
  scene.host.sequence = handed!.batch.sequence;
  await settle(scene, handed!.batch.jobs as HostJob[]);
  await timePasses(scene.rig, 25);
  const after = await swept(scene);
  assert.deepEqual([after.doubted, after.returned, await stateOf(scene, id)], [0, 0, "succeeded"]);
});

test("while it is handed over its ticket is taken for busy, and others are issued for what comes", async () => {
  const scene = await lingering();
  await scene.rig.admit({}, 2, 1);
  await scene.rig.admit({}, 2, 1);
  assert.equal(scene.rig.offered.length, 2, "for the other host");
});

test("what was handed over can be cancelled, and goes back with its host", async () => {
  const scene = await lingering();
  const cancelled = await scene.rig.admit();
  const [{ handed } = {}] = await heard(scene);
  assert.equal((await scene.rig.store.cancel(cancelled))?.moved, true);
  assert.deepEqual(await scene.host.commit(scene.ticket, [succeeded(handed!.batch.jobs[0]!)]), ["ended"]);

  const lost = await lingering();
  const id = await lost.rig.admit();
  const { returned } = await lost.rig.store.takeBack(lost.rig.tag, lost.host.incarnation, 1, 1);
  assert.deepEqual([returned, await stateOf(lost, id)], [1, "queued"]);
});

test("a host that gives its ticket up, and has not begun it, gives it back, and it costs no attempt", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const id = await rig.admit();
  const [issued] = await host.release(ticket, 1, "unbegun");
  const record = await rig.record(id);
  assert.deepEqual([record.state, record.attempt], ["queued", 0]);
  const other = rig.host("host-2");
  await other.take(issued!);
  assert.equal((await other.batch(issued!))[0]!.id, id);
  // one that was begun is its host's until that is known to be dead
  const begun = await lingering();
  const second = await begun.rig.admit();
  await begun.host.batch(begun.ticket);
  assert.deepEqual(await begun.host.release(begun.ticket, 1, "unbegun"), []);
  assert.equal(await stateOf(begun, second), "running");
});

test("nobody else takes it out of its host's hands: neither who asks for a drain, nor who calls the host back", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  const id = await rig.admit();
  assert.deepEqual(await host.release(ticket), []);
  await rig.store.callBack(rig.tag, () => true);
  assert.deepEqual([await stateOf(scene, id), (await ticketOf(scene))?.state], ["running", "handed"]);
  const [{ handed } = {}] = await heard(scene);
  host.sequence = handed!.batch.sequence;
  await settle(scene, handed!.batch.jobs as HostJob[]);
  assert.equal(await ticketOf(scene), undefined, "with the commit, however soon the next job comes, the ticket goes");
  const next = await rig.admit();
  assert.equal(await stateOf(scene, next), "queued");
  assert.equal((await host.claim(ticket)).kind, "not_yours");
});

test("who is to leave is doubted as others are, and leaves all the same when it commits", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  await rig.admit();
  await host.release(ticket);
  await timePasses(rig, neededMs + 100);
  assert.equal((await swept(scene)).doubted, 1);
  const [{ handed } = {}] = await heard(scene);
  host.sequence = handed!.batch.sequence;
  await settle(scene, handed!.batch.jobs as HostJob[]);
  assert.equal(await ticketOf(scene), undefined);
});

test("a late entry whose job has ended otherwise goes, whoever there is", async () => {
  const scene = await lingering();
  const { rig } = scene;
  await rig.store.cancel(await rig.admit());
  await timePasses(rig, neededMs + 100);
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await ticketOf(scene), undefined);
});

test("a host that has not heard gets the inputs with its look, if they are small", async () => {
  const scene = await lingering();
  const { host, rig, ticket } = scene;
  await rig.admit({ inputs: [Buffer.from("one input")] });
  const args = [rig.tag, host.incarnation, 2, ticket, host.hostId, 16, 500, 200, 0, 0, 1, "alone"];
  const reply = (await rigs.script("claim", keys.base(rig.tag), args)) as string[];
  assert.deepEqual([reply[0], reply.slice(3)], ["batch", ["one input"]]);
});

test("where no other host could take it, it waits for its own, which may be slow", async () => {
  const scene = await lingering();
  const { host, rig } = scene;
  const id = await rig.admit();
  for (let at = 0; at < 2; at++) {
    await timePasses(rig, neededMs + 100);
    const { doubted, returned } = await rig.store.sweep(rig.tag, 2, 1, [host.incarnation]);
    assert.deepEqual([doubted, returned, await stateOf(scene, id)], [0, 0, "running"]);
  }
  const { returned } = await rig.store.takeBack(rig.tag, host.incarnation, 0, 1);
  assert.deepEqual([returned, (await rig.record(id)).attempt], [1, 1]);
});

test("one that its host may have died of is claimed alone from then on", async () => {
  const scene = await lingering();
  const { rig } = scene;
  const id = await rig.admit({ maxAttempts: 9 });
  for (let at = 0; at < 2; at++) {
    await timePasses(rig, neededMs + 100);
    await swept(scene);
  }
  await rig.admit({ maxAttempts: 9 }, 2, 1);
  const other = rig.host("host-2");
  const ticket = rig.offered.at(-1)!;
  await other.take(ticket);
  assert.deepEqual(
    (await other.batch(ticket)).map((job) => job.id),
    [id],
  );
});

test("late ones stay until their job has gone back: who gives another ticket up does not remove theirs", async () => {
  const scene = await lingering();
  const { rig } = scene;
  const id = await rig.admit({}, 2, 1);
  await rig.admit({}, 2, 1);
  const other = rig.host("host-2");
  await other.take(rig.offered.at(-1)!);
  await timePasses(rig, neededMs + 100);
  await other.release(rig.offered.at(-1)!, 2);
  assert.equal((await ticketOf(scene))?.state, "handed");
  await swept(scene);
  await timePasses(rig, 30);
  assert.equal((await swept(scene)).returned, 1);
  assert.equal(await stateOf(scene, id), "queued");
});
