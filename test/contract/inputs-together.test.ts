/** Inputs of jobs that come in one turn are written together, in one transaction with their admission: none is left without its job, whatever happens. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import { RedisConnection, RedisSubscription } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisJobStore } from "../../coordinator/src/adapters/redis-job-store.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { NewJob } from "../../coordinator/src/ports/job-store.ts";
import { FaultProxy } from "../chaos/faults/proxy.ts";
import { scriptOf } from "../chaos/faults/script-names.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { eventually, type HostJob, type HostOutcome, isAccepted, type JobRig, roomyQueue, succeeded } from "../support/job-rig.ts";

const rigs = await redisRigs();

/** A rig whose server has run the script that admits. */
async function rigThatRan(): Promise<JobRig> {
  const rig = rigs.rig();
  await rig.admit();
  const { host, ticket } = await rig.hostWithTicket();
  await host.commit(
    ticket,
    (await host.batch(ticket)).map((job) => succeeded(job)),
  );
  return rig;
}

const jobsOf = (rig: JobRig, count: number, wishes: Partial<NewJob> = {}): NewJob[] =>
  Array.from({ length: count }, (_, at) => rig.job({ inputs: [new Uint8Array([at, at]), new Uint8Array(300).fill(at)], ...wishes }));
const admitAll = (rig: JobRig, jobs: readonly NewJob[], store = rig.store, queue = roomyQueue) =>
  Promise.allSettled(jobs.map((job) => store.admit(job, queue)));
const light = { ...roomyQueue, isLight: true };
const scriptsRun = async (): Promise<number> => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await rigs.redis.info("commandstats"))?.[1]);
const livesOf = (rig: JobRig, jobs: readonly NewJob[]): Promise<number[]> =>
  Promise.all(jobs.map(({ id }) => rigs.redis.pttl(keys.input(rig.tag, id))));
const isMortal = (ms: number): boolean => ms > 0;
/** As PTTL answers. */
const [immortal, gone] = [-1, -2];

async function runAll(rig: JobRig, outcomeOf: (job: HostJob) => HostOutcome = (job) => succeeded(job)): Promise<void> {
  const { host, ticket } = await rig.hostWithTicket();
  const jobs = await host.batch(ticket);
  await host.commit(
    ticket,
    jobs.map((job) => outcomeOf(job)),
  );
}

test("inputs that came together live as long as their jobs are open, are what each job brought, and go with them", async () => {
  const rig = await rigThatRan();
  const jobs = jobsOf(rig, 5);
  assert.ok((await admitAll(rig, jobs)).every(({ status }) => status === "fulfilled"));
  assert.deepEqual(await livesOf(rig, jobs), Array(5).fill(immortal));
  for (const [at, { id }] of jobs.entries()) {
    assert.deepEqual(await rig.store.inputs(id), Buffer.concat([Buffer.from([at, at]), Buffer.alloc(300, at)]));
  }
  assert.deepEqual((await rig.audit()).immortal, []);
  await rig.store.cancel(jobs[4]!.id);
  await runAll(rig);
  assert.deepEqual(await livesOf(rig, jobs), Array(5).fill(gone));
});

test("one alone, and several that are large together, have a time to live of their own", async () => {
  const rig = await rigThatRan();
  const [one] = jobsOf(rig, 1) as [NewJob];
  await admitAll(rig, [one]);
  const large = jobsOf(rig, 3, { inputs: [new Uint8Array(400_000)] });
  await admitAll(rig, large);
  for (const ms of await livesOf(rig, [one, ...large])) assert.ok(isMortal(ms), `${ms}`);
});

test("a server that has forgotten the script, or is another one since, is taught, and no input stays without its job", async () => {
  const rig = await rigThatRan();
  await rigs.redis.script("FLUSH");
  const jobs = jobsOf(rig, 4);
  assert.ok((await admitAll(rig, jobs)).every(({ status }) => status === "fulfilled"));
  assert.deepEqual((await rig.audit()).immortal, []);
  // every connection but this one is ended: what comes next goes to a server of which nothing is known
  await rigs.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
  await sleep(50); // it is told of its end by now, or with the next command
  await eventually("the store to answer", () =>
    rig.store.read(jobs[0]!.id).then(
      () => true,
      () => false,
    ),
  );
  const later = jobsOf(rig, 4);
  await admitAll(rig, later);
  for (const ms of await livesOf(rig, later)) assert.ok(isMortal(ms), `${ms}`);
  await rig.admit();
  const learned = jobsOf(rig, 4);
  await admitAll(rig, learned);
  assert.deepEqual(await livesOf(rig, learned), Array(4).fill(immortal));
});

test("a store without memory takes neither jobs nor inputs", async () => {
  const rig = await rigThatRan();
  const jobs = jobsOf(rig, 4);
  await rigs.redis.config("SET", "maxmemory", "1mb");
  try {
    for (const answer of await admitAll(rig, jobs)) {
      assert.equal(answer.status, "rejected");
      assert.equal((answer.reason as SwitchyardError).code, "store_full");
    }
    assert.deepEqual(await livesOf(rig, jobs), Array(4).fill(gone));
  } finally {
    await rigs.redis.config("SET", "maxmemory", "0");
  }
});

test("jobs that are refused, or have ended before they come again, leave no inputs; those of a dead letter stay with it", async () => {
  const rig = await rigThatRan();
  const jobs = jobsOf(rig, 3, { maxAttempts: 1 });
  await admitAll(rig, jobs);
  const error = { code: "run_failed", detail: "the run threw", retryable: true };
  await runAll(rig, (job) =>
    job.id === jobs[0]!.id ? { id: job.id, fence: job.fence, outcome: "retry", error, retryDelayMs: 1 } : succeeded(job),
  );
  const dead = await livesOf(rig, jobs);
  assert.deepEqual(dead.slice(1), [gone, gone]);
  assert.ok(dead[0]! > 80_000_000, "a dead letter keeps its inputs for a day");
  await admitAll(rig, jobs);
  const again = await livesOf(rig, jobs);
  assert.deepEqual(again.slice(1), [gone, gone]);
  assert.ok(again[0]! > 80_000_000, `${again[0]}`);

  const crowd = jobsOf(rig, 4);
  const refusing = { ...roomyQueue, mostWaiting: 2 };
  const answers = await Promise.all(crowd.map((job) => rig.store.admit(job, refusing)));
  assert.equal(answers.filter(({ answer }) => answer === "admitted").length, 2);
  assert.deepEqual(await livesOf(rig, crowd), [immortal, immortal, gone, gone]);
});

/** Another coordinator's store, which speaks to the server through what may break it. */
async function withStore(use: (parts: { store: RedisJobStore; proxy: FaultProxy }) => Promise<void>): Promise<void> {
  const { hostname, port } = new URL(rigs.url);
  await using proxy = await FaultProxy.open({ host: hostname, port: Number(port), isRedis: true });
  const url = new URL(rigs.url);
  url.port = String(proxy.port);
  const redis = new RedisConnection(url.href, "cut", systemClock);
  await redis.open();
  const subscription = new RedisSubscription(rigs.url, "cut-notices", systemClock);
  try {
    await use({ store: new RedisJobStore({ redis, subscription, tickets: rigs.offers, coordinator: "cut" }), proxy });
  } finally {
    subscription.close();
    await redis.close();
  }
}

for (const kind of ["drop_reply", "drop_command"] as const) {
  test(`a connection that ends ${kind === "drop_reply" ? "after" : "in the middle of"} the transaction costs no job, and none is there twice`, async () => {
    const rig = rigs.rig();
    await withStore(async ({ proxy, store }) => {
      const [first, ...jobs] = jobsOf(rig, 5) as [NewJob, ...NewJob[]];
      await admitAll(rig, [first], store);
      let faults = 0;
      proxy.onCommand = (words) => (scriptOf(words) === "admit" && faults++ === 0 ? { kind } : undefined);
      const answers = await admitAll(rig, jobs, store);
      assert.deepEqual(
        answers.map((answer) => answer.status === "fulfilled" && isAccepted(answer.value)),
        Array(4).fill(true),
      );
      assert.equal(faults, 2, "the reply that was lost, and the repeat");
      const { due, immortal: forever, jobs: records } = await rig.audit();
      assert.deepEqual([due.length, records.size, forever], [5, 5, []]);
      for (const { id } of jobs) assert.equal((await store.inputs(id))?.length, 302);
    });
  });

  test(`two pieces of a turn lose no job where the connection ends by ${kind}, and the next turn has two again`, async () => {
    const rig = rigs.rig();
    await withStore(async ({ proxy, store }) => {
      const jobs = jobsOf(rig, 40);
      await admitAll(rig, jobs.splice(0, 1), store);
      let faults = 0;
      proxy.onCommand = (words) => (scriptOf(words) === "admit" && faults++ === 0 ? { kind } : undefined);
      const answers = await admitAll(rig, jobs, store, light);
      assert.ok(answers.every((answer) => answer.status === "fulfilled" && isAccepted(answer.value)));
      assert.ok(faults > 2, `${faults}: one that was lost, and two pieces`);
      const { due, immortal: forever, jobs: records } = await rig.audit();
      assert.deepEqual([due.length, records.size, forever], [40, 40, []]);
      for (const { id } of jobs) assert.equal((await store.inputs(id))?.length, 302);
      proxy.onCommand = undefined;
      const before = await scriptsRun();
      await admitAll(rig, jobsOf(rig, 40), store, light);
      assert.equal((await scriptsRun()) - before, 2);
    });
  });
}

test("what was begun on a connection is not carried out on the next one, whose server may not know the script", async () => {
  const rig = rigs.rig();
  await withStore(async ({ proxy, store }) => {
    const [first, ...jobs] = jobsOf(rig, 5) as [NewJob, ...NewJob[]];
    await admitAll(rig, [first], store);
    await rigs.redis.script("FLUSH");
    // the transaction is cut off, and so is everything that would teach the script
    proxy.onCommand = (words) => (/^(exec|eval)$/i.test(words[0] ?? "") ? { kind: "drop_command" } : undefined);
    for (const { status } of await admitAll(rig, jobs, store)) assert.equal(status, "rejected");
    for (const ms of await livesOf(rig, jobs)) assert.ok(ms !== immortal, `${ms}`);
  });
});

test("where transactions are refused, jobs are admitted once all the same, and none is tried again", async () => {
  await rigs.redis.call("ACL", "SETUSER", "default", "-multi");
  try {
    const rig = rigs.rig();
    await withStore(async ({ proxy, store }) => {
      const [first, ...jobs] = jobsOf(rig, 4) as [NewJob, ...NewJob[]];
      await admitAll(rig, [first], store);
      let begun = 0;
      proxy.onCommand = ([name]) => {
        if (name === "multi") begun++;
        return undefined;
      };
      for (const some of [jobs, jobsOf(rig, 3)]) {
        const answers = await Promise.all(some.map((job) => store.admit(job, roomyQueue)));
        assert.deepEqual(
          answers.map(({ answer }) => answer),
          ["admitted", "admitted", "admitted"],
        );
      }
      assert.equal(begun, 1);
      assert.deepEqual((await rig.audit()).immortal, []);
    });
  } finally {
    await rigs.redis.call("ACL", "SETUSER", "default", "+multi");
  }
});

test("one id that comes twice in a turn, and is refused the first time, keeps its input", async () => {
  const rig = await rigThatRan();
  await admitAll(rig, jobsOf(rig, 3));
  const job = rig.job({ inputs: [new Uint8Array(300)] });
  const answers = await Promise.all([{ ...job, mostAhead: 0 }, job].map((one) => rig.store.admit(one, roomyQueue)));
  assert.deepEqual(
    answers.map(({ answer }) => answer),
    ["refused", "admitted"],
  );
  assert.deepEqual(await livesOf(rig, [job]), [immortal]);
});

test("of light runs sixteen jobs of a turn are sent before it ends, if no admission is unanswered; of others all in one piece, 128 at most", async () => {
  const rig = await rigThatRan();
  const scriptsFor = async (admit: () => Promise<readonly PromiseSettledResult<unknown>[]>): Promise<number> => {
    const before = await scriptsRun();
    assert.ok((await admit()).every(({ status }) => status === "fulfilled"));
    return (await scriptsRun()) - before;
  };
  assert.equal(await scriptsFor(() => admitAll(rig, jobsOf(rig, 40), rig.store, light)), 2, "16, and the rest");
  assert.equal(await scriptsFor(() => admitAll(rig, jobsOf(rig, 40))), 1);
  assert.equal(await scriptsFor(() => admitAll(rig, jobsOf(rig, 300))), 3);
  const beside = async () => {
    const one = rig.admit();
    await new Promise(setImmediate); // it is sent, and its answer is read in a later turn
    const others = await admitAll(rig, jobsOf(rig, 300), rig.store, light);
    await one;
    return others;
  };
  assert.equal(await scriptsFor(beside), 4, "the one; then as those that are not light");
  const spoiled = jobsOf(rig, 40).map((job, at) => (at === 3 ? { ...job, timeoutMs: Number.NaN } : job));
  const answers = await admitAll(rig, spoiled, rig.store, light);
  assert.deepEqual(
    answers.flatMap(({ status }, at) => (status === "rejected" ? [at] : [])),
    [3],
  );
  assert.equal(await scriptsFor(() => admitAll(rig, jobsOf(rig, 40), rig.store, light)), 2, "what failed was answered, too");
  assert.deepEqual((await rig.audit()).immortal, []);
});
