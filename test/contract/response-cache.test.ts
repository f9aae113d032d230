/** The response cache and its flights on a real Redis, beside the job scripts that they must agree with. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { newJobId } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisResponseCache } from "../../coordinator/src/adapters/redis-response-cache.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { JobNotice } from "../../coordinator/src/ports/job-store.ts";
import type { Asked, CacheableJob, CacheTerms, Flight } from "../../coordinator/src/ports/response-cache.ts";
import { clockPasses, eventually, inTime, type JobRig, newJob, succeeded, timePasses } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";
import { until } from "../support/until.ts";

let server: TestRedis;
let rigs: RedisRigs;
let connection: RedisConnection;
let cache: RedisResponseCache;
let evicted = 0;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  connection = new RedisConnection(server.url, "cache", systemClock);
  await connection.open();
  const cacheEvicted = (_model: string, count: number): void => {
    evicted += count;
  };
  cache = new RedisResponseCache({ redis: connection, tickets: rigs.offers, metrics: { cacheEvicted }, coordinator: "coordinator-1" });
});

after(async () => {
  await connection?.close();
  await rigs?.close();
  await server?.stop();
});

const terms: CacheTerms = { key: "request-1", ttlMs: 60_000, bytes: 1_000_000 };
const answer = Buffer.from("the framed outputs");
const runError = { code: "run_failed", detail: "the run threw", retryable: false };

class Desk {
  readonly rig: JobRig = rigs.rig();

  job(wishes: Partial<CacheableJob> = {}): CacheableJob {
    return { ...newJob(this.rig.tag, wishes), cache: terms, ...wishes };
  }

  ask(job: CacheableJob, outputs = true): Promise<Asked> {
    return cache.ask(job, { outputs });
  }

  /** Asks and, if it is to lead, admits. */
  async lead(wishes: Partial<CacheableJob> = {}): Promise<CacheableJob> {
    const job = this.job(wishes);
    assert.equal((await this.ask(job)).answer, "lead");
    await this.rig.admitted(job);
    return job;
  }

  async follow(wishes: Partial<CacheableJob> = {}): Promise<CacheableJob> {
    const job = this.job(wishes);
    assert.equal((await this.ask(job)).answer, "joined");
    return job;
  }

  flight(leader: string, of: CacheTerms = terms): Flight {
    return { model: "digits", tag: this.rig.tag, cache: of, leader };
  }

  settle(leader: string, abandoned = false) {
    return cache.settle(this.flight(leader), { abandoned, matchingHosts: 1, batchItems: 8 });
  }

  /** Runs all that waits. */
  async run(outputs: Uint8Array = answer): Promise<string[]> {
    const { host, ticket } = await this.rig.hostWithTicket();
    const jobs = await host.batch(ticket);
    await host.commit(
      ticket,
      jobs.map((job) => succeeded(job, outputs)),
    );
    await host.claim(ticket, { lingerMs: 0 });
    return jobs.map(({ id }) => id);
  }

  /** Runs one job and keeps its answer. */
  async known(wishes: Partial<CacheableJob> = {}, outputs: Uint8Array = answer): Promise<CacheableJob> {
    const job = await this.lead(wishes);
    await this.run(outputs);
    await cache.settle(this.flight(job.id, job.cache), { abandoned: false, matchingHosts: 1, batchItems: 8 });
    return job;
  }

  async state(id: string): Promise<string> {
    return (await this.rig.record(id)).state;
  }

  /** Names of this queue's keys that have no end, but for those of any queue. */
  async immortal(): Promise<string[]> {
    const names = await rigs.redis.keys(`sy:{${this.rig.tag}}:*`);
    const ends = await Promise.all(names.map((name) => rigs.redis.pttl(name)));
    return names
      .filter((_name, at) => ends[at] === -1)
      .map((name) => name.split(":").slice(2).join(":"))
      .filter((name) => !/^(clock|claims|tickets|flows|weights|shares|index|recent)$/.test(name));
  }
}

test("an answer that is known ends a job at once, with a record and outputs like any other's", async () => {
  const desk = new Desk();
  await desk.known();
  const job = desk.job({ tags: { team: "a" }, requestId: "r-1" });
  const asked = await desk.ask(job);
  assert.ok(asked.answer === "hit");
  assert.deepEqual(Buffer.from(asked.outputs!), answer);
  const record = await desk.rig.record(job.id);
  assert.deepEqual([record.state, record.revision, record.fence, record.attempt], ["succeeded", 1, 0, 0]);
  assert.deepEqual([record.tags, record.requestId, record.createdMs, record.finishedMs], [{ team: "a" }, "r-1", asked.nowMs, asked.nowMs]);
  assert.deepEqual(record.timings, { queueMs: 0, runMs: 0, totalMs: 0, batchItems: 0 });
  assert.deepEqual(Buffer.from((await desk.rig.store.outputs(job.id, 0))!), answer);
  assert.deepEqual(
    (await desk.rig.store.list([desk.rig.tag], { limit: 1 })).jobs.map(({ id }) => id),
    [job.id],
  );
  assert.deepEqual([(await desk.rig.audit()).due, await desk.immortal()], [[], []]);
});

test("a held call that is answered from the cache is kept as briefly as any other, and can be kept longer", async () => {
  const desk = new Desk();
  await desk.known({}, Buffer.alloc(5_000, 1)); // too large for the record itself
  const job = desk.job({ held: true, ttlMs: 60_000 });
  assert.equal((await desk.ask(job, false)).answer, "hit");
  const ttlMs = await rigs.redis.pttl(`sy:{${desk.rig.tag}}:job:${job.id}`);
  assert.ok(ttlMs > 50_000 && ttlMs <= 60_000, `${ttlMs} ms`);
  await desk.rig.store.keep(job.id, 600_000);
  assert.ok((await rigs.redis.pttl(`sy:{${desk.rig.tag}}:out:${job.id}:0`)) > 600_000);
  assert.equal((await desk.rig.store.outputs(job.id, 0))?.length, 5_000);
});

test("outputs travel only to who wishes them", async () => {
  const desk = new Desk();
  await desk.known();
  const asked = await desk.ask(desk.job(), false);
  assert.ok(asked.answer === "hit" && asked.outputs === undefined);
});

test("requests with other keys, and other queues, know nothing of an answer", async () => {
  const desk = new Desk();
  await desk.known();
  assert.equal((await desk.ask(desk.job({ cache: { ...terms, key: "request-2" } }))).answer, "lead");
  assert.equal((await new Desk().ask(new Desk().job())).answer, "lead");
});

test("equal jobs under way wait for the one that leads, and are answered with it", async () => {
  const desk = new Desk();
  const told: JobNotice[] = [];
  await desk.rig.store.onNotice((notice) => void (notice.id.startsWith(desk.rig.tag) && told.push(notice)));
  const leader = await desk.lead();
  const followers = await Promise.all([desk.follow({ wait: true }), desk.follow({ wait: true, class: "batch" })]);
  const audit = await desk.rig.audit();
  assert.deepEqual(audit.later.sort(), followers.map(({ id }) => id).sort());
  assert.equal(audit.due.length, 3);
  assert.deepEqual(await desk.run(), [leader.id]);
  assert.deepEqual(await desk.settle(leader.id), { leader: undefined });
  for (const { id } of followers) {
    const record = await desk.rig.record(id);
    assert.deepEqual([record.state, record.revision, record.fence, record.attempt], ["succeeded", 2, 0, 0]);
    assert.deepEqual(Buffer.from((await desk.rig.store.outputs(id, 0))!), answer);
    await eventually("its coordinator is told", () => told.some((notice) => notice.id === id && notice.state === "succeeded"));
  }
  const after = await desk.rig.audit();
  assert.deepEqual([after.due, after.later, after.immortal, await desk.immortal()], [[], [], [], []]);
  assert.deepEqual(await rigs.redis.keys(`sy:{${desk.rig.tag}}:in:*`), []);
});

test("a crowd of followers is answered in parts, and beyond a thousand jobs run by themselves", async () => {
  const desk = new Desk();
  const leader = await desk.lead();
  const jobs = Array.from({ length: 1_005 }, () => desk.job());
  const asked = await Promise.all(jobs.map((job) => desk.ask(job)));
  assert.deepEqual(
    ["joined", "alone"].map((word) => asked.filter((one) => one.answer === word).length),
    [1_000, 5],
  );
  await desk.run();
  await desk.settle(leader.id);
  const states = await desk.rig.store.peek(jobs.map(({ id }) => id));
  assert.equal([...states.values()].filter(({ state }) => state === "succeeded").length, 1_000);
});

test("a success that nobody settled is found by the next equal job, which ends with it", async () => {
  const desk = new Desk();
  await desk.lead();
  await desk.run();
  const asked = await desk.ask(desk.job());
  assert.ok(asked.answer === "hit" && asked.outputs);
  assert.deepEqual(Buffer.from(asked.outputs), answer);
});

test("followers of a leader that failed run by themselves, with a ticket, and the failure is not kept", async () => {
  const desk = new Desk();
  const leader = await desk.lead({ maxAttempts: 1 });
  const follower = await desk.follow();
  const { host, ticket } = await desk.rig.hostWithTicket();
  const [job] = await host.batch(ticket);
  await host.commit(ticket, [{ ...job!, outcome: "failed", error: runError }]);
  await host.claim(ticket, { lingerMs: 0 });
  const offered = desk.rig.offered.length;
  assert.deepEqual(await desk.settle(leader.id), { leader: undefined });
  assert.equal(await desk.state(follower.id), "queued");
  assert.equal(desk.rig.offered.length, offered + 1);
  assert.equal((await desk.ask(desk.job())).answer, "lead");
  assert.deepEqual(await desk.run(), [follower.id]);
  assert.equal(await desk.state(follower.id), "succeeded");
});

test("a leader that was cancelled is followed by the first that still waits; the others wait on", async () => {
  const desk = new Desk();
  const leader = await desk.lead();
  const [gone, next, last] = [await desk.follow(), await desk.follow(), await desk.follow()];
  await desk.rig.store.cancel(gone.id);
  await desk.rig.store.cancel(leader.id);
  assert.deepEqual(await desk.settle(leader.id), { leader: next.id });
  assert.deepEqual((await desk.rig.audit()).later, [last.id]);
  assert.deepEqual(await desk.run(), [next.id]);
  assert.deepEqual(await desk.settle(next.id), { leader: undefined });
  assert.deepEqual([await desk.state(gone.id), await desk.state(last.id)], ["cancelled", "succeeded"]);
});

test("a leader that expired does not take its followers along, and a follower keeps its own deadline", async () => {
  const { desk, hasty, leader, patient } = await inTime(150, async (timeoutMs) => {
    const desk = new Desk();
    const leader = await desk.lead({ timeoutMs, latestStartMs: timeoutMs });
    const [hasty, patient] = [desk.job({ timeoutMs: timeoutMs + 10, latestStartMs: timeoutMs + 10 }), desk.job()];
    for (const follower of [hasty, patient]) {
      if ((await desk.ask(follower)).answer === "joined") continue;
      assert.ok((await desk.rig.audit()).nowMs >= (await desk.rig.record(leader.id)).deadlineMs, "it joins while its leader has time");
      return undefined;
    }
    return { desk, hasty, leader, patient };
  });
  await clockPasses(desk.rig.store, (await desk.rig.record(hasty.id)).deadlineMs);
  await desk.rig.store.expire([leader.id, hasty.id, patient.id]);
  assert.deepEqual(
    [await desk.state(leader.id), await desk.state(hasty.id), await desk.state(patient.id)],
    ["expired", "expired", "queued"],
  );
  assert.deepEqual(await desk.settle(leader.id), { leader: patient.id });
  assert.deepEqual(await desk.run(), [patient.id]);
});

test("a leader that was not admitted is waited for a moment, unless its coordinator gives it up", async () => {
  const desk = new Desk();
  const leader = desk.job();
  assert.equal((await desk.ask(leader)).answer, "lead");
  const [first, second] = [await desk.follow(), await desk.follow()];
  assert.deepEqual(await desk.settle(leader.id), { leader: leader.id });
  assert.deepEqual(await desk.settle(leader.id, true), { leader: first.id });
  await desk.rig.store.cancel(first.id);
  assert.deepEqual(await desk.settle(first.id), { leader: second.id });
  const other = new Desk();
  const dead = other.job();
  await other.ask(dead);
  const waiting = await other.follow();
  await timePasses(other.rig, 450);
  assert.deepEqual(await other.settle(dead.id), { leader: waiting.id });
});

test("a follower whose leader is never heard of runs by itself after half of its time", async () => {
  await inTime(400, async (timeoutMs) => {
    const desk = new Desk();
    await desk.lead();
    const { host, ticket } = await desk.rig.hostWithTicket();
    await host.batch(ticket);
    const follower = await desk.follow({ timeoutMs, latestStartMs: timeoutMs - 10 });
    const { createdMs, deadlineMs } = await desk.rig.record(follower.id);
    const early = await desk.rig.store.sweep(desk.rig.tag, 1, 8);
    if (early.nowMs >= createdMs + timeoutMs / 2) return undefined;
    assert.deepEqual((await desk.rig.audit()).later, [follower.id]);
    await clockPasses(desk.rig.store, createdMs + timeoutMs / 2);
    const late = await desk.rig.store.sweep(desk.rig.tag, 1, 8);
    if (late.nowMs >= deadlineMs) return undefined;
    assert.deepEqual((await desk.rig.audit()).order.standard, [follower.id]);
    return desk;
  });
});

test("a follower that was cancelled stays cancelled when its leader succeeds", async () => {
  const desk = new Desk();
  const leader = await desk.lead();
  const follower = await desk.follow();
  await desk.rig.store.cancel(follower.id);
  await desk.run();
  await desk.settle(leader.id);
  assert.deepEqual([await desk.state(leader.id), await desk.state(follower.id)], ["succeeded", "cancelled"]);
});

test("a follower that a host has taken, or had taken, is left alone when its leader ends", async () => {
  const desk = new Desk();
  const leader = await desk.lead();
  const { host, ticket } = await desk.rig.hostWithTicket();
  const [first] = await host.batch(ticket);
  const taken = [];
  for (const name of ["host-2", "host-3"]) {
    const follower = await desk.follow({ latestStartMs: 5 }); // then it must run by itself
    await clockPasses(desk.rig.store, (await desk.rig.record(follower.id)).createdMs + 5);
    await desk.rig.store.sweep(desk.rig.tag, 3, 8);
    const other = desk.rig.host(name);
    const otherTicket = desk.rig.offered.at(-1)!;
    await other.take(otherTicket);
    const [job] = await other.batch(otherTicket);
    assert.equal(job!.id, follower.id);
    taken.push({ other, otherTicket, job: job! });
  }
  const [running, back] = taken as [(typeof taken)[0], (typeof taken)[0]];
  await back.other.commit(back.otherTicket, [{ id: back.job.id, fence: back.job.fence, outcome: "back" }]);
  await host.commit(ticket, [succeeded(first!, answer)]);
  await desk.settle(leader.id);
  assert.deepEqual([await desk.state(running.job.id), await desk.state(back.job.id)], ["running", "queued"]);
});

test("a deadline counts as equal within a fiftieth of the time, 100 ms at most", async () => {
  for (const [timeoutMs, earlierMs, equalMs] of [
    [30_000, 300, 100],
    [1_000, 90, 20],
  ] as const) {
    await until("a job to be asked for soon after the one that leads", async () => {
      const desk = new Desk();
      const leader = await desk.lead({ timeoutMs });
      const job = desk.job({ timeoutMs: timeoutMs - earlierMs, latestStartMs: 100 });
      const { answer } = await desk.ask(job);
      if (answer === "lead") return true;
      // the later it is asked for, the later is its end
      const [own, leaders] = await Promise.all([job, leader].map(({ id }) => desk.rig.record(id)));
      assert.ok(leaders!.deadlineMs - own!.deadlineMs <= equalMs, `${answer}: ${leaders!.deadlineMs - own!.deadlineMs} ms earlier`);
      return false;
    });
  }
});

test("a leader that waits holds up nobody who is more urgent, or of another tenant, and is answered with them", async () => {
  // where two tenants have equal rights the first by name is served first
  for (const wishes of [{ class: "interactive" as const }, { tenant: "another" }, { timeoutMs: 20_000, latestStartMs: 100 }]) {
    const desk = new Desk();
    const slow = await desk.lead();
    const urgent = await desk.lead(wishes);
    const { host, ticket } = await desk.rig.hostWithTicket();
    const [job] = await host.batch(ticket, { maxItems: 1 });
    assert.equal(job!.id, urgent.id, JSON.stringify(wishes));
    await host.commit(ticket, [succeeded(job!, answer)]);
    await desk.settle(urgent.id);
    assert.equal(await desk.state(slow.id), "succeeded", JSON.stringify(wishes));
    assert.deepEqual((await desk.rig.audit()).order, { interactive: [], standard: [], batch: [] });
  }
  const desk = new Desk();
  await desk.lead();
  await desk.follow({ class: "batch" });
  await desk.follow({ latestStartMs: 29_500 });
  await desk.follow({ latestStartMs: 100 }); // the same deadline: only what the run takes was not known to the leader
  // of one moment, and one of them lost 80 ms of its time on the way
  await desk.follow({ timeoutMs: 29_920, latestStartMs: 100 });
  const { host, ticket } = await desk.rig.hostWithTicket();
  await host.batch(ticket);
  await desk.follow({ class: "interactive", tenant: "other", latestStartMs: 1 }); // it runs: nothing is sooner
});

test("the same job asked again is there already, or leads again", async () => {
  const desk = new Desk();
  const job = desk.job();
  assert.deepEqual([(await desk.ask(job)).answer, (await desk.ask(job)).answer], ["lead", "lead"]);
  await desk.rig.admitted(job);
  assert.equal((await desk.ask(job)).answer, "existing");
  const follower = await desk.follow();
  assert.equal((await desk.ask(follower)).answer, "existing");
  await desk.run();
  await desk.settle(job.id);
  assert.deepEqual(await desk.settle(job.id), { leader: undefined });
  const late = desk.job();
  const twice = await Promise.all([desk.ask(late), desk.ask(late)]);
  assert.deepEqual(twice.map((one) => one.answer).sort(), ["existing", "hit"]);
});

test("an answer is gone after its time, counted from the end of its run, and leaves nothing behind", async () => {
  const { desk, finishedMs, short } = await inTime(150, async (ttlMs) => {
    const desk = new Desk();
    const short = { ...terms, ttlMs };
    const first = await desk.known({ cache: short });
    const finishedMs = (await desk.rig.record(first.id)).finishedMs!;
    if ((await desk.ask(desk.job({ cache: short }))).answer === "hit") return { desk, finishedMs, short };
    assert.ok((await desk.rig.audit()).nowMs >= finishedMs + ttlMs, "it is known until its time is over");
    return undefined;
  });
  await clockPasses(desk.rig.store, finishedMs + short.ttlMs);
  const next = await desk.lead({ cache: short });
  assert.deepEqual(await rigs.redis.keys(`sy:{${desk.rig.tag}}:cache:*`), []);
  for (const name of ["cache-ends", "cache-bytes"]) {
    const leftMs = await rigs.redis.pttl(`sy:{${desk.rig.tag}}:${name}`);
    assert.ok(leftMs > 0 && leftMs < 11_000 + short.ttlMs, `${name} stays ${leftMs} ms`);
  }
  // a success that lies longer back than answers live is not taken either
  await desk.run();
  await clockPasses(desk.rig.store, (await desk.rig.record(next.id)).finishedMs! + short.ttlMs);
  assert.equal((await desk.ask(desk.job({ cache: short }))).answer, "lead");
});

test("answers never count more than the bound: the oldest give way, and are counted", async () => {
  const desk = new Desk();
  const bytes = 3 * (1_000 + 256);
  const of = (at: number): CacheTerms => ({ key: `request-${at}`, ttlMs: 60_000, bytes });
  const before = evicted;
  for (let at = 0; at < 5; at++) await desk.known({ cache: of(at) }, Buffer.alloc(1_000, at + 1));
  assert.equal(evicted - before, 2);
  const kept = await rigs.redis.keys(`sy:{${desk.rig.tag}}:cache:*`);
  assert.deepEqual(kept.map((name) => name.slice(-1)).sort(), ["2", "3", "4"]);
  assert.equal(await rigs.redis.get(`sy:{${desk.rig.tag}}:cache-bytes`), String(bytes));
  // an operator lowers the bound: the next answer makes room for itself alone
  await desk.known({ cache: { ...of(5), bytes: 1_256 } }, Buffer.alloc(1_000, 9));
  assert.deepEqual(await rigs.redis.keys(`sy:{${desk.rig.tag}}:cache:*`), [`sy:{${desk.rig.tag}}:cache:request-5`]);
  await desk.known({ cache: { ...of(6), bytes: 1_255 } }, Buffer.alloc(1_000, 9));
  assert.equal((await desk.ask(desk.job({ cache: of(6) }))).answer, "lead", "an answer larger than the bound is not kept");
  assert.equal((await desk.ask(desk.job({ cache: of(5) }))).answer, "hit", "nor does it drive others out");
});

test("answers whose time is over count no longer", async () => {
  const desk = new Desk();
  const bytes = 2 * (1_000 + 256);
  const first = await desk.known({ cache: { key: "short", ttlMs: 100, bytes } }, Buffer.alloc(1_000, 1));
  await desk.known({ cache: { key: "long", ttlMs: 60_000, bytes } }, Buffer.alloc(1_000, 2));
  await clockPasses(desk.rig.store, (await desk.rig.record(first.id)).finishedMs! + 100);
  const before = evicted;
  await desk.known({ cache: { key: "next", ttlMs: 60_000, bytes } }, Buffer.alloc(1_000, 3));
  assert.deepEqual([evicted, await rigs.redis.get(`sy:{${desk.rig.tag}}:cache-bytes`)], [before, String(bytes)]);
});

test("an answer that was evicted before the next equal job asks is run anew", async () => {
  const desk = new Desk();
  await desk.known();
  await rigs.redis.del(`sy:{${desk.rig.tag}}:cache:${terms.key}`);
  await desk.known();
  assert.equal((await desk.ask(desk.job())).answer, "hit");
});

test("outputs of more than 1 MiB, and references to larger ones, are neither kept nor shared", async () => {
  for (const outputs of [Buffer.alloc(1_048_577, 1), Buffer.from([0xff, 0xff, 0xff, 0xff, 0x62, 0x6c, 0x6f, 0x62, ...Buffer.alloc(40)])]) {
    const desk = new Desk();
    const leader = await desk.lead();
    const follower = await desk.follow();
    await desk.run(outputs);
    assert.equal((await desk.ask(desk.job())).answer, "alone");
    assert.deepEqual(await desk.settle(leader.id), { leader: undefined });
    assert.deepEqual((await desk.rig.audit()).order.standard, [follower.id]);
    assert.deepEqual(await rigs.redis.keys(`sy:{${desk.rig.tag}}:cache*`), []);
  }
  const desk = new Desk();
  const roomy = { ...terms, bytes: 2_000_000 };
  await desk.known({ cache: roomy }, Buffer.alloc(1_048_576, 1));
  assert.equal((await desk.ask(desk.job())).answer, "hit");
});

test("what a host commits under an old fence reaches neither the cache nor a follower", async () => {
  const desk = new Desk();
  const leader = await desk.lead();
  const follower = await desk.follow();
  const { host, ticket } = await desk.rig.hostWithTicket();
  const [old] = await host.batch(ticket);
  await desk.rig.store.returnClaim(desk.rig.tag, host.incarnation, 1);
  await host.commit(ticket, [succeeded(old!, Buffer.from("poison"))]);
  assert.deepEqual(await desk.settle(leader.id), { leader: leader.id });
  const [job] = await host.batch(ticket);
  await host.commit(ticket, [succeeded(job!, answer)]);
  await host.commit(ticket, [succeeded(old!, Buffer.from("poison"))]);
  await desk.settle(leader.id);
  for (const id of [follower.id, desk.job().id]) {
    const asked = id === follower.id ? undefined : await desk.ask(desk.job({ id }));
    assert.ok(asked === undefined || asked.answer === "hit");
    assert.deepEqual(Buffer.from((await desk.rig.store.outputs(id, 0))!), answer);
  }
});

test("a store whose memory is full refuses the question and changes nothing", async () => {
  const desk = new Desk();
  await desk.known();
  const job = desk.job();
  await rigs.redis.config("SET", "maxmemory", "1mb");
  try {
    await assert.rejects(desk.ask(job), { code: "store_full" });
  } finally {
    await rigs.redis.config("SET", "maxmemory", String(1024 ** 3));
  }
  assert.equal(await desk.rig.store.read(job.id), undefined);
  assert.equal((await desk.ask(job)).answer, "hit");
});

test("a server that forgot its scripts is taught again in the middle of a question", async () => {
  const desk = new Desk();
  await desk.known();
  await rigs.redis.script("FLUSH");
  assert.equal((await desk.ask(desk.job({ id: newJobId(desk.rig.tag) }))).answer, "hit");
});
