/**
 * Random walks over the response cache and the job scripts at once: equal and different requests, hosts that succeed, fail and hand back, cancels,
 * deadlines, settlements that come late, twice, or never. After every step the queue is looked at; in the end every job has its outcome.
 * SWITCHYARD_FUZZ_RUNS sets the number of walks, SWITCHYARD_FUZZ_SEED repeats one.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isTerminal, type JobState } from "@switchyard/protocol";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisResponseCache } from "../../coordinator/src/adapters/redis-response-cache.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { Asked, CacheableJob } from "../../coordinator/src/ports/response-cache.ts";
import { seededRandom } from "../../scripts/seeded-random.ts";
import { type HostJob, type HostOutcome, type JobRig, newJob, type TestHost } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

const walks = Number(process.env.SWITCHYARD_FUZZ_RUNS ?? 30);
const firstSeed = Number(process.env.SWITCHYARD_FUZZ_SEED ?? Date.now() % 2 ** 31);
const stepsPerWalk = 60;
const keys = ["red", "green"];
const runError = { code: "run_failed", detail: "the run threw", retryable: true };

let server: TestRedis;
let rigs: RedisRigs;
let connection: RedisConnection;
let cache: RedisResponseCache;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  connection = new RedisConnection(server.url, "cache", systemClock);
  await connection.open();
  cache = new RedisResponseCache({ redis: connection, tickets: rigs.offers, metrics: { cacheEvicted() {} }, coordinator: "coordinator-1" });
});

after(async () => {
  await connection?.close();
  await rigs?.close();
  await server?.stop();
});

interface Seat {
  host: TestHost;
  ticket: string;
  jobs: HostJob[];
}

class Walk {
  readonly rig: JobRig = rigs.rig();
  readonly seen: Record<string, number>;
  readonly #random: () => number;
  readonly #jobs = new Map<string, CacheableJob>();
  readonly #flights = new Map<string, CacheableJob>();
  readonly #seats: Seat[] = [];
  readonly #ended = new Map<string, JobState>();

  constructor(seed: number, seen: Record<string, number>) {
    const random = seededRandom(seed);
    this.#random = () => random.next();
    this.seen = seen;
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  #count(what: string): void {
    this.seen[what] = (this.seen[what] ?? 0) + 1;
  }

  async ask(): Promise<void> {
    const key = this.#pick(keys)!;
    const timeoutMs = this.#random() < 0.2 ? 30 : 20_000;
    const wishes = {
      class: this.#pick(["interactive", "standard", "batch"] as const)!,
      tenant: this.#pick(["a", "b"])!,
      held: this.#random() < 0.5,
      ...{ timeoutMs, latestStartMs: timeoutMs - 5, maxAttempts: 2 },
    };
    const ttlMs = this.#random() < 0.5 ? 20 : 60_000;
    const outputs = 20 + Math.floor(this.#random() * 2) * 2_000;
    const job: CacheableJob = { ...newJob(this.rig.tag, wishes), cache: { key: `${key}-${outputs}`, ttlMs, bytes: 3_000 } };
    const asked: Asked = await cache.ask(job, { outputs: true });
    this.#count(asked.answer);
    // the answer of a key is the key, over and over
    if (asked.answer === "hit") assert.equal(Buffer.from(asked.outputs!).toString(), this.#outputsOf(job).toString());
    this.#jobs.set(job.id, job);
    if (asked.answer === "joined") this.#flights.set(asked.leader, job);
    if (asked.answer !== "lead" && asked.answer !== "alone") return;
    if (asked.answer === "lead") this.#flights.set(job.id, job);
    if (this.#random() < 0.1) {
      this.#jobs.delete(job.id); // its coordinator died, or it was refused
      if (this.#random() < 0.5) await this.settle(job.id, true);
    } else await this.rig.admitted(job);
  }

  #outputsOf({ cache: { key } }: CacheableJob): Buffer {
    return Buffer.alloc(Number(key.split("-")[1]), key);
  }

  async settle(leader: string | undefined = this.#pick([...this.#flights.keys()]), abandoned = false): Promise<void> {
    if (leader === undefined) return;
    const job = this.#flights.get(leader)!;
    const { leader: next } = await cache.settle(
      { model: "digits", tag: this.rig.tag, cache: job.cache, leader },
      { abandoned, matchingHosts: 2, batchItems: 4 },
    );
    this.#count(next === undefined ? "settled" : next === leader ? "open" : "another leads");
    if (next !== undefined) this.#flights.set(next, job);
  }

  async claim(): Promise<void> {
    let seat = this.#pick(this.#seats.filter(({ jobs }) => jobs.length === 0));
    if (!seat) {
      const ticket = this.rig.offered.at(-1);
      const host = this.rig.host(`host-${this.#seats.length}`);
      if (!ticket || this.#seats.length > 2 || (await host.take(ticket)) !== "held") return;
      for (const other of this.#seats) if (other.ticket === ticket) other.ticket = "";
      seat = { host, ticket, jobs: [] };
      this.#seats.push(seat);
    }
    if (seat.ticket === "") {
      const ticket = this.rig.offered.at(-1)!;
      if ((await seat.host.take(ticket)) !== "held") return;
      for (const other of this.#seats) if (other !== seat && other.ticket === ticket) other.ticket = "";
      seat.ticket = ticket;
    }
    const answer = await seat.host.claim(seat.ticket, { maxItems: 3, lingerMs: this.#random() < 0.5 ? 0 : 50 });
    this.#count(answer.kind);
    if (answer.kind === "batch") seat.jobs = answer.jobs;
    else if (answer.kind === "retired" || answer.kind === "not_yours") seat.ticket = "";
  }

  async commit(kinds: readonly HostOutcome["outcome"][] = ["succeeded", "succeeded", "failed", "retry", "back"]): Promise<void> {
    const seat = this.#pick(this.#seats.filter(({ jobs }) => jobs.length > 0));
    if (!seat) return;
    const outcomes = seat.jobs.map(({ id, fence }): HostOutcome => {
      const outcome = this.#pick(kinds)!;
      if (outcome === "succeeded") return { id, fence, outcome, outputs: this.#outputsOf(this.#jobs.get(id)!) };
      return { id, fence, outcome, error: runError, retryDelayMs: 3 };
    });
    seat.jobs = [];
    // a host may commit under a ticket that it has lost
    await seat.host.commit(seat.ticket || "none", outcomes);
  }

  async cancel(): Promise<void> {
    const id = this.#pick([...this.#jobs.keys()]);
    if (id !== undefined) await this.rig.store.cancel(id);
  }

  async sweep(): Promise<void> {
    for (const ticket of (await this.rig.store.sweep(this.rig.tag, 2, 4)).tickets) this.rig.offers.offer(this.rig.tag, ticket);
  }

  async step(): Promise<void> {
    const chance = this.#random();
    if (chance < 0.45) await this.ask();
    else if (chance < 0.6) await this.claim();
    else if (chance < 0.75) await this.commit();
    else if (chance < 0.87) await this.settle();
    else if (chance < 0.93) await this.cancel();
    else await this.sweep();
    await this.look();
  }

  async look(): Promise<void> {
    const audit = await this.rig.audit();
    const open = [...audit.jobs].filter(([, { state }]) => !isTerminal(state));
    assert.deepEqual([...audit.due].sort(), open.map(([id]) => id).sort(), "due holds exactly the open jobs");
    const queued = open.filter(([, { state }]) => state === "queued").map(([id]) => id);
    assert.deepEqual([...Object.values(audit.order).flat(), ...audit.later].sort(), queued.sort(), "a waiting job stands in one line");
    assert.deepEqual(audit.immortal, []);
    for (const [id, { state }] of audit.jobs) {
      if (this.#ended.has(id)) assert.equal(state, this.#ended.get(id), `${id} had ended`);
      if (isTerminal(state)) this.#ended.set(id, state);
    }
    for (const id of this.#jobs.keys()) assert.ok(audit.jobs.has(id), `${id} is lost`);
    const [kept, flights] = await Promise.all(["cache", "flight"].map((kind) => rigs.redis.keys(`sy:{${this.rig.tag}}:${kind}:*`)));
    const lengths = await Promise.all(kept!.map((name) => rigs.redis.strlen(name)));
    const bytes = lengths.reduce((sum, length) => sum + length + 256, 0);
    assert.ok(bytes <= 3_000, `${bytes} bytes are kept`);
    const looked = [...kept!, ...flights!];
    const ttls = await Promise.all(looked.map((name) => rigs.redis.pttl(name)));
    for (const [at, name] of looked.entries()) assert.notEqual(ttls[at], -1, name);
  }

  /** Everybody does his work until nothing is open; coordinators settle what they heard of. A leader that never came is waited for a while. */
  async finish(): Promise<void> {
    for (const lateMs = Date.now() + 30_000; Date.now() < lateMs; ) {
      const open = [...(await this.rig.audit()).jobs].filter(([, { state }]) => !isTerminal(state));
      if (open.length === 0) break;
      for (const leader of [...this.#flights.keys()]) await this.settle(leader);
      await this.sweep();
      await this.claim();
      await this.commit(["succeeded"]);
      await this.rig.store.expire(open.map(([id]) => id));
    }
    await this.look();
    const ends = new Set<JobState>();
    for (const id of this.#jobs.keys()) {
      const record = await this.rig.record(id);
      assert.ok(isTerminal(record.state), `${id} never ended`);
      ends.add(record.state);
      if (record.state !== "succeeded") continue;
      const outputs = await this.rig.store.outputs(id, record.fence);
      assert.equal(Buffer.from(outputs!).toString(), this.#outputsOf(this.#jobs.get(id)!).toString(), `${id} has another's answer`);
    }
    for (const state of ends) this.#count(state);
  }
}

test("whatever happens in whatever order, each job waits in one line, ends once, and has the answer to its own request", async () => {
  const seen: Record<string, number> = {};
  for (let at = 0; at < walks; at++) {
    const seed = firstSeed + at;
    const walk = new Walk(seed, seen);
    try {
      for (let step = 0; step < stepsPerWalk; step++) await walk.step();
      await walk.finish();
    } catch (error) {
      throw new Error(`SWITCHYARD_FUZZ_SEED=${seed} SWITCHYARD_FUZZ_RUNS=1 repeats it`, { cause: error });
    }
  }
  if (walks < 30) return;
  const words = ["hit", "joined", "lead", "settled", "open", "another leads", "batch", "succeeded", "failed", "cancelled", "expired"];
  for (const word of words) assert.ok((seen[word] ?? 0) > 0, `${word} never happened`);
});
