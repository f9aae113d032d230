/** What a record holds comes back as it was put in, whatever is in it: through the scripts on a real Redis, the notices, and a host's own calls. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import type { JobError } from "@switchyard/protocol";
import { keys, newIncarnation } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { noticesOf, recordOf } from "../../coordinator/src/adapters/job-rows.ts";
import type { RedisJobStore } from "../../coordinator/src/adapters/redis-job-store.ts";
import type { JobNotice, JobRecord, NewJob } from "../../coordinator/src/ports/job-store.ts";
import { wireConnection } from "../../worker/src/redis-connection.ts";
import { type ClaimAnswer, Claims, type ClaimWish, type JobResult } from "../../worker/src/runner/claims.ts";
import { eventually, type JobRig, roomyQueue, unforeseen } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let wire: Redis;
let other: RedisJobStore;
const notices = new Map<string, JobNotice>();
const otherNotices = new Map<string, JobNotice>();

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  await rigs.rig().store.onNotice((notice) => notices.set(notice.id, notice));
  other = await rigs.coordinator("coordinator-2");
  await other.onNotice((notice) => otherNotices.set(notice.id, notice));
  wire = wireConnection(server.url, "runner") as Redis;
  await once(wire, "ready");
});

after(async () => {
  wire?.disconnect();
  await rigs?.close();
  await server?.stop();
});

type Batch = ClaimAnswer & { kind: "batch" };

/** A host that takes from one queue through its own calls. */
class Host {
  readonly claims: Claims;
  readonly rig: JobRig;
  readonly #incarnation = newIncarnation();
  #ticketId = "";

  constructor(rig: JobRig, hostId: string) {
    this.rig = rig;
    this.claims = new Claims({ redis: wire, incarnation: this.#incarnation, hostId });
  }

  async claim(more: Partial<ClaimWish> = {}): Promise<Batch> {
    const { tag } = this.rig;
    if (this.#ticketId === "") {
      this.#ticketId = this.rig.offered.at(-1) as string;
      assert.equal(await this.rig.side.take({ tag, incarnation: this.#incarnation, ticketId: this.#ticketId }), "held");
    }
    const wish = { tag, ticketId: this.#ticketId, maxItems: 16, busyMs: 30_000, lingerMs: 50, ...unforeseen, ...more };
    const { claim } = await this.claims.exchange(undefined, wish);
    assert.equal(claim?.kind, "batch");
    return claim as Batch;
  }

  async commit(results: JobResult[]): Promise<string[] | undefined> {
    const commit = { tag: this.rig.tag, ticketId: this.#ticketId, runMs: 12.3456, batchItems: results.length, results };
    return (await this.claims.exchange(commit, undefined)).committed;
  }
}

const done = (job: { id: string; fence: number; ttlMs: number }, outputs: Uint8Array): JobResult => ({
  ...{ id: job.id, fence: job.fence, outcome: "succeeded" },
  ...{ outputs, ttlMs: job.ttlMs },
});

/** Admits one job with these traits and claims it. */
async function claimed(wishes: Partial<NewJob> = {}, hostId = "host-1"): Promise<{ host: Host; job: Batch["jobs"][0]; rig: JobRig }> {
  const rig = rigs.rig();
  await rig.admit({ wait: true, ...wishes });
  const host = new Host(rig, hostId);
  const { jobs } = await host.claim();
  return { host, job: jobs[0]!, rig };
}

async function noticeOf(id: string, from = notices): Promise<JobNotice> {
  await eventually("the notice comes", () => from.has(id));
  return from.get(id) as JobNotice;
}

const odd = {
  tags: { größe: "käse 🧀", "a b": "line\nline", "": "empty\u2028", q: "\"\\'{}", lone: "\ud800", zero: "\u0000" },
  requestId: 'first\nsecond\r\n\tthird 🧀 %20 "quoted"',
  tenant: "müller & söhne: 100 % / a\nb\t*!~'()",
  outputs: [{ name: "sc ores\n", binary: true, classification: 3 }, { name: "ünïcode" }],
  shapeClass: "1x64>sc ores\n,ünïcode",
  model: "models may.be-odd_",
  version: 12,
};

test("everything that a caller may write comes back from the record, through every step of its life", async () => {
  const rig = rigs.rig();
  const job = rig.job({ ...odd, wait: true, class: "interactive" });
  await rig.admitted(job);
  const traits = (record: JobRecord) => {
    const { tags, requestId, tenant, outputs, model, version } = record;
    return { tags, requestId, tenant, outputs, model, version, class: record.class };
  };
  const { shapeClass: _shape, ...expected } = { ...odd, class: "interactive" };
  assert.deepEqual(traits(await rig.record(job.id)), expected);
  const watched = await other.watch(job.id);
  assert.ok(watched && "id" in watched);
  assert.deepEqual(traits(watched), expected);

  const host = new Host(rig, "höst 1/ä");
  const { jobs } = await host.claim();
  assert.deepEqual([jobs[0]?.id, jobs[0]?.class], [job.id, "interactive"]);
  const running = await rig.record(job.id);
  assert.deepEqual(traits(running), expected);
  assert.deepEqual([running.state, running.hostId, running.attempt], ["running", "höst 1/ä", 1]);

  await host.commit([done(jobs[0]!, Buffer.from("out"))]);
  const ended = await rig.record(job.id);
  assert.deepEqual(traits(ended), expected);
  assert.deepEqual([ended.state, ended.hostId, ended.revision], ["succeeded", "höst 1/ä", 3]);
  assert.deepEqual([ended.timings?.runMs, ended.timings?.batchItems], [12.346, 1]);
  const { jobs: listed } = await rig.store.list([rig.tag], { limit: 10, tenant: odd.tenant, tag: "größe=käse 🧀" });
  assert.deepEqual(listed.map(traits), [expected]);
});

test("jobs of one turn that differ in one term each have their own, through every step", async () => {
  const rig = rigs.rig();
  const terms: Partial<NewJob>[] = [
    {},
    {},
    { timeoutMs: 40_000 },
    { latestStartMs: 28_000 },
    { ttlMs: 50_000 },
    { held: true },
    { wait: false },
  ];
  terms.push({ tags: { a: "b" } }, { maxAttempts: 1 }, { items: 2 }, { tenant: "other" }, { class: "batch" }, {});
  const jobs = terms.flatMap((one) => [rig.job({ wait: true }), rig.job({ wait: true, ...one })]);
  const impatient = rig.job({ wait: true, mostAhead: 0 });
  const [refused] = await Promise.all(
    [...jobs.slice(0, 2), impatient, ...jobs.slice(2)].map((job) => rig.store.admit(job, roomyQueue)),
  ).then((answers) => answers.splice(2, 1));
  assert.equal(refused?.answer, "refused");

  const base = keys.base(rig.tag);
  for (const job of jobs) {
    const record = await rig.record(job.id);
    assert.deepEqual(
      [record.deadlineMs - record.createdMs, record.ttlMs, record.held, record.tenant, record.class, record.tags, record.maxAttempts],
      [job.timeoutMs, job.ttlMs, job.held, job.tenant, job.class, job.tags, job.maxAttempts],
    );
    assert.equal(await rigs.redis.zscore(`${base}order:${job.class}:${job.tenant}`, job.id), String(record.createdMs + job.latestStartMs));
    assert.equal(await rigs.redis.zscore(`${base}${job.held ? "recent" : "index"}`, job.id), String(record.createdMs));
  }

  const host = new Host(rig, "host-1");
  const claim = await host.claim({ maxItems: 64 });
  assert.equal(claim.jobs.length, jobs.length);
  const claimedJobs = new Map(claim.jobs.map((job) => [job.id, job]));
  for (const job of jobs) {
    const told = claimedJobs.get(job.id)!;
    const expected = [job.items, job.ttlMs, job.class, told.createdMs + job.timeoutMs];
    assert.deepEqual([told.items, told.ttlMs, told.class, told.deadlineMs], expected);
  }
  await host.commit(claim.jobs.map((job) => done(job, Buffer.from(job.id))));
  for (const job of jobs.filter(({ wait }) => wait)) {
    const notice = await noticeOf(job.id);
    assert.deepEqual([notice.items, notice.tenant, notice.class, notice.fence], [job.items, job.tenant, job.class, 1]);
    assert.equal(Buffer.from(notice.outputs!).toString(), job.id);
  }
  assert.ok(!jobs.some(({ id, wait }) => !wait && notices.has(id)));
});

test("tenants that look alike have flows of their own", async () => {
  const rig = rigs.rig();
  const tenants = ["a b", "a%20b", "a:b", "a", "standard:a"];
  for (const tenant of tenants) await rig.admit({ tenant });
  assert.equal(await rigs.redis.hlen(`${keys.base(rig.tag)}flows`), tenants.length);
  const { jobs } = await new Host(rig, "host-1").claim();
  const seen = await Promise.all(jobs.map(async ({ id }) => (await rig.record(id)).tenant));
  assert.deepEqual(seen.sort(), [...tenants].sort());
});

test("a name with a line end does not become a line of the record", async () => {
  const { job, rig } = await claimed({ shapeClass: "1x64>a\nb", tenant: "a\nb", requestId: "\n\n0 0 0 -\n" });
  const bytes = (await rigs.redis.getBuffer(`${keys.base(rig.tag)}job:${job.id}`)) as Buffer;
  assert.ok(!bytes.includes(0x0a));
});

const outputs: [what: string, bytes: Buffer][] = [
  ["line ends", Buffer.from("\n\n1 2 3 -\n\n")],
  ["every byte", Buffer.from(Array.from({ length: 256 }, (_, at) => at))],
  ["no text", Buffer.from([0xff, 0xfe, 0x0a, 0xc3, 0x28, 0x0a, 0x00])],
  ["one byte", Buffer.from([0x0a])],
  ["as much as a record takes", Buffer.alloc(1_024, 0x0a)],
];
for (const [what, bytes] of outputs) {
  test(`small outputs of ${what} live in the record, and travel with the notice`, async () => {
    const { host, job, rig } = await claimed(odd);
    assert.deepEqual(await host.commit([done(job, bytes)]), ["committed"]);
    assert.equal(await rigs.redis.exists(keys.output(rig.tag, job.id, job.fence)), 0, "no key of their own");
    assert.deepEqual(Buffer.from((await rig.store.outputs(job.id, job.fence))!), bytes);
    assert.deepEqual((await rig.record(job.id)).tags, odd.tags);
    const notice = await noticeOf(job.id);
    assert.deepEqual(Buffer.from(notice.outputs!), bytes);
    assert.deepEqual([notice.state, notice.runMs, notice.counts, notice.error], ["succeeded", 12.346, true, undefined]);
  });
}

test("larger outputs have a key of their own, and the notice comes without them", async () => {
  const { host, job, rig } = await claimed();
  const bytes = Buffer.alloc(1_025, 0x0a);
  assert.deepEqual(await host.commit([done(job, bytes)]), ["committed"]);
  assert.deepEqual(await rigs.redis.getBuffer(keys.output(rig.tag, job.id, job.fence)), bytes);
  assert.deepEqual(Buffer.from((await rig.store.outputs(job.id, job.fence))!), bytes);
  assert.equal((await noticeOf(job.id)).outputs, undefined);
});

test("a commit that is repeated finds its small outputs where it left them", async () => {
  const { host, job, rig } = await claimed();
  const bytes = Buffer.from("a\nb");
  assert.deepEqual(await host.commit([done(job, bytes)]), ["committed"]);
  assert.deepEqual(await host.commit([done(job, Buffer.from("another"))]), ["ended"]);
  assert.deepEqual(Buffer.from((await rig.store.outputs(job.id, job.fence))!), bytes);
});

test("a held job that outlives its call keeps its small outputs as long as any other", async () => {
  const { host, job, rig } = await claimed({ ...odd, held: true, ttlMs: 5_000 });
  const bytes = Buffer.from("\n\n\0");
  await host.commit([done(job, bytes)]);
  await rig.store.keep(job.id, 60_000);
  const left = await rigs.redis.pttl(`${keys.base(rig.tag)}job:${job.id}`);
  assert.ok(left > 50_000, `${left} ms`);
  assert.deepEqual(Buffer.from((await rig.store.outputs(job.id, job.fence))!), bytes);
  const record = await rig.record(job.id);
  assert.deepEqual([record.held, record.ttlMs, record.tags, record.state], [false, 60_000, odd.tags, "succeeded"]);
});

test("an error of any text is told as it is, to each coordinator that waits, and counted by one", async () => {
  const error: JobError = { code: "run_failed", detail: 'bad "input"\nat line 2 🧀\u2028 -', retryable: false };
  const { host, job, rig } = await claimed(odd);
  assert.ok(await other.watch(job.id));
  assert.deepEqual(await host.commit([{ id: job.id, fence: job.fence, outcome: "failed", error }]), ["committed"]);
  assert.deepEqual((await rig.record(job.id)).error, error);
  const both = [await noticeOf(job.id), await noticeOf(job.id, otherNotices)];
  for (const notice of both) assert.deepEqual([notice.state, notice.error, notice.class], ["failed", error, "standard"]);
  assert.equal(both.filter(({ counts }) => counts).length, 1);
});

test("notices of one message are told apart, whatever their records hold", async () => {
  const rig = rigs.rig();
  const ids = [];
  for (let at = 0; at < 5; at++) ids.push(await rig.admit({ ...odd, wait: true }));
  const host = new Host(rig, "host-1");
  const { jobs } = await host.claim();
  const bytes = (id: string): Buffer => Buffer.from(`\n${id} 1 9\nqueued\n`);
  await host.commit(jobs.map((job, at) => (at === 2 ? { id: job.id, fence: job.fence, outcome: "late" } : done(job, bytes(job.id)))));
  for (const [at, { id }] of jobs.entries()) {
    const notice = await noticeOf(id);
    assert.equal(notice.state, at === 2 ? "expired" : "succeeded");
    if (at !== 2) assert.deepEqual(Buffer.from(notice.outputs!), bytes(id));
  }
});

test("a message of no notice is none, and a record that still waits carries no outcome", async () => {
  assert.deepEqual(noticesOf(Buffer.alloc(0)), []);
  const rig = rigs.rig();
  const id = await rig.admit(odd);
  const bytes = (await rigs.redis.getBuffer(`${keys.base(rig.tag)}job:${id}`)) as Buffer;
  const record = recordOf(id, bytes);
  assert.deepEqual(
    [record.state, record.startedMs, record.finishedMs, record.timings, record.error, record.hostId],
    ["queued", undefined, undefined, undefined, undefined, undefined],
  );
});

test("a job that was claimed and became late is told as expired, not run and not run again", async () => {
  const { host, job, rig } = await claimed();
  assert.deepEqual(await host.commit([{ id: job.id, fence: job.fence, outcome: "late" }]), ["committed"]);
  const record = await rig.record(job.id);
  assert.deepEqual([record.state, record.error?.code, record.timings?.runMs, record.timings?.batchItems], ["expired", "expired", 0, 0]);
  assert.match(record.error?.detail ?? "", /none was started/);
  const audit = await rig.audit();
  assert.deepEqual([audit.due, audit.order.standard, audit.later, audit.immortal], [[], [], [], []]);
  assert.equal(await rigs.redis.exists(keys.input(rig.tag, job.id)), 0);
  assert.deepEqual(
    audit.claims.flatMap(({ jobs }) => jobs),
    [],
  );
  assert.equal((await noticeOf(job.id)).error?.code, "expired");
  assert.deepEqual(await host.commit([{ id: job.id, fence: job.fence, outcome: "late" }]), ["ended"]);
});

test("a late job under an old fence ends nothing", async () => {
  const { host, job, rig } = await claimed();
  assert.deepEqual(await host.commit([{ id: job.id, fence: job.fence + 1, outcome: "late" }]), ["stale"]);
  assert.equal((await rig.record(job.id)).state, "running");
});

test("the inputs of one or two small jobs come with the claim, in its order", async () => {
  for (const count of [1, 2]) {
    const rig = rigs.rig();
    for (let at = 0; at < count; at++)
      await rig.admit({ inputs: [Buffer.from(`\n${at}`), Buffer.from([0xff, at])], latestStartMs: 1_000 + at });
    const claim = await new Host(rig, "host-1").claim();
    assert.deepEqual(
      claim.inputs,
      Array.from({ length: count }, (_, at) => Buffer.concat([Buffer.from(`\n${at}`), Buffer.from([0xff, at])])),
    );
  }
});

test("inputs of more jobs, or of large ones, are left to be read, and are the same then", async () => {
  const large = Buffer.alloc(16_385, 7);
  for (const sizes of [[1, 1, 1], [16_385], [1, 16_385], [16_385, 1]]) {
    const rig = rigs.rig();
    for (const [at, size] of sizes.entries()) await rig.admit({ inputs: [large.subarray(0, size)], latestStartMs: 1_000 + at });
    const host = new Host(rig, "host-1");
    const claim = await host.claim();
    assert.equal(claim.inputs, undefined, `${sizes}`);
    const read = await host.claims.inputs(rig.tag, claim.jobs);
    assert.deepEqual(
      read.map((bytes) => bytes?.length),
      sizes,
    );
  }
});

test("inputs that are gone show as gone in the claim that would bring them", async () => {
  const rig = rigs.rig();
  const ids = [await rig.admit({ latestStartMs: 1_000 }), await rig.admit({ latestStartMs: 2_000 })];
  await rigs.redis.del(keys.input(rig.tag, ids[0]!));
  const { inputs } = await new Host(rig, "host-1").claim();
  assert.deepEqual(inputs, [null, Buffer.from([1, 2, 3])]);
});

test("a claim tells the size class, by which its run is predicted", async () => {
  const { job } = await claimed({ size: 11, items: 3 });
  assert.deepEqual([job.size, job.items, job.ttlMs], [11, 3, 60_000]);
});
