/** Durability tiers on real servers: what is not offered is refused, and neither an admission nor an outcome is told before it is safe. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { json } from "node:stream/consumers";
import { describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { JobView } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import { type Answer, call, floats, jobView } from "../support/calls.ts";
import { setting, startReplica, tell } from "../support/durable-stores.ts";
import { startProcesses } from "../support/processes.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { shortest } from "../support/shortest.ts";
import { emptyRepository, layersModel, rowsOf } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

/** What callers are promised while the store, or what it needs for a tier, is frozen. */
const toldMs = 2_500;
/** Longer where this machine stands still; those that waited for one another would be told later yet. */
const latestMs = 6_000;

const bodyOf = (durability: string, pixel = 1) => ({
  model: "digits",
  durability,
  inputs: [floats("image", [1, 64], new Float32Array(64).fill(pixel))],
});

const submit = (url: string, durability: string, { key, pixel = 1 }: { key?: string; pixel?: number } = {}) =>
  call(`${url}/v1/jobs`, { body: bodyOf(durability, pixel), headers: key === undefined ? {} : { "idempotency-key": key } });

function assertUnavailable(answer: Answer, tier: string, what: RegExp): void {
  assert.equal(answer.status, 422, answer.bytes.toString());
  const problem = answer.json();
  assert.equal(problem.code, "durability_unavailable");
  assert.match(problem.detail, what);
  assert.deepEqual([problem.errors[0].pointer, problem.errors[0].got], ["/durability", tier]);
}

function assertUnsettled(answer: Answer, id?: string): string {
  assert.equal(answer.status, 503, answer.bytes.toString());
  assert.ok(answer.tookMs <= latestMs, `told after ${answer.tookMs.toFixed(0)} ms`);
  assert.ok(Number(answer.headers["retry-after"]) >= 1);
  const problem = answer.json();
  assert.equal(problem.code, "store_unavailable");
  assert.match(problem.job_id, /^[a-z2-7]{10}-/, answer.bytes.toString());
  if (id !== undefined) assert.equal(problem.job_id, id);
  return problem.job_id;
}

/** Calls that are made at once, and made again where this machine let none of them be told in time. */
async function toldInTime(ask: () => Promise<Answer[]>): Promise<Answer[]> {
  let answers: Answer[] = [];
  const quickestMs = await shortest(toldMs, async () => {
    answers = await ask();
    return Math.min(...answers.map(({ tookMs }) => tookMs));
  });
  assert.ok(quickestMs <= toldMs, `told after ${quickestMs.toFixed(0)} ms`);
  return answers;
}

const recordOf = async (redis: TestRedis, id: string): Promise<string> =>
  String((await tell(redis, "GET", `${keys.base(tagOf(id))}job:${id}`)) ?? "");

/** Ends with the test, whatever becomes of it. */
async function redisFor(t: TestContext): Promise<TestRedis> {
  const redis = await startTestRedis();
  t.after(() => redis.stop());
  return redis;
}

async function replicaFor(t: TestContext, master: TestRedis): Promise<TestRedis> {
  const replica = await startReplica(master);
  t.after(() => replica.stop());
  return replica;
}

const untilEnded = (redis: TestRedis, id: string) =>
  until("the job to end in the store", async () => (await recordOf(redis, id)).startsWith("succeeded"));

/** What made it safe may stand still for a moment on a busy machine: it is asked for again, as callers are told to. */
const settledView = (url: string, id: string) =>
  until(`job ${id} to be told`, async () => {
    const answer = await call(`${url}/v1/jobs/${id}?wait=60`);
    return answer.status !== 503 && (answer.json() as JobView);
  });

/** All doors that would tell its outcome. */
const askAll = (url: string, id: string): Promise<Answer>[] =>
  ["", "?wait=5", "/result", "/events"].map((path) => call(`${url}/v1/jobs/${id}${path}`));

/** Each on servers of its own. */
describe("durability", { concurrency: 2 }, () => {
  test("a store that syncs every second and has no replica refuses both tiers, until its settings change, and after they have changed back", async (t) => {
    const redis = await redisFor(t);
    await using cluster = await startProcesses({ redis });
    const { url } = cluster;
    const usual = await submit(url, "fast");
    assert.equal(usual.json().durability, "fast");
    assert.equal((await jobView(url, usual.json().id, 60)).durability, "fast");
    assert.doesNotMatch(
      String(await tell(redis, "CLIENT", "LIST")),
      /coordinator-durable/,
      "jobs of the usual tier make no connection that waits",
    );
    assertUnavailable(await submit(url, "fsync"), "fsync", /has no WAITAOF.*appendfsync is everysec.*CONFIG SET appendfsync always$/);
    assertUnavailable(await submit(url, "replicated"), "replicated", /no replica is connected/);
    const key = "refused-first";
    assertUnavailable(await submit(url, "fsync", { key }), "fsync", /appendfsync/);

    await setting(redis, "appendfsync", "always");
    const given = await until("fsync to be offered", async () => {
      const answer = await submit(url, "fsync", { key });
      return answer.status === 202 && answer;
    });
    const { id, durability } = given.json();
    assert.equal(durability, "fsync");
    const ended = await settledView(url, id);
    assert.deepEqual([ended.state, ended.durability], ["succeeded", "fsync"]);
    assert.equal((await call(`${url}/v1/jobs/${id}/result`)).status, 200);
    assert.match((await call(`${url}/v1/jobs/${id}/events`)).bytes.toString(), /event: succeeded\n.*"durability":"fsync"/);

    await setting(redis, "appendfsync", "everysec");
    for (const answer of await toldInTime(() => Promise.all(askAll(url, id)))) assertUnsettled(answer, id);
    await until("fsync to be refused", async () => (await submit(url, "fsync", { pixel: 2 })).status === 422);
    await setting(redis, "appendfsync", "always");
    await until("the outcome to be told again", async () => (await call(`${url}/v1/jobs/${id}`)).status === 200);
  });

  test("with a replica that answers, admission and outcome are told; frozen, neither is, and a repeat settles both", async (t) => {
    const redis = await redisFor(t);
    const replica = await replicaFor(t, redis);
    // no worker yet, so that the outcome comes when the test wants it
    await using cluster = await startProcesses({ redis, workers: 0, coordinators: 2 });
    const [url, other] = cluster.urls as [string, string];
    const body = { ...bodyOf("replicated"), wait_for_host: true };
    const post = (key: string, at = url) => call(`${at}/v1/jobs`, { body, headers: { "idempotency-key": key } });
    const first = await post("first");
    assert.equal(first.status, 202, first.bytes.toString());
    assert.equal(first.json().durability, "replicated");
    t.diagnostic(`admitted in ${first.tookMs.toFixed(1)} ms`);

    replica.pause();
    const crowd = await toldInTime(() =>
      Promise.all([post("frozen"), post("frozen", other), ...Array.from({ length: 60 }, (_, at) => post(`crowd-${at}`))]),
    );
    for (const answer of crowd) assertUnsettled(answer);
    const [id] = crowd.map((answer) => answer.json().job_id);
    assert.equal(crowd[1]!.json().job_id, id, "one key, one job");
    assertUnsettled(await post("frozen"), id);
    assert.equal((await call(`${url}/v1/jobs/${id}`)).json().state, "queued"); // what is no outcome is shown as it is

    const fastIds: string[] = [];
    const fastMs = await shortest(1_000, async () => {
      const fast = await call(`${url}/v1/jobs`, { body: { ...bodyOf("fast"), wait_for_host: true } });
      assert.equal(fast.status, 202, fast.bytes.toString());
      fastIds.push(fast.json().id);
      return fast.tookMs;
    });
    assert.ok(fastMs < 1_000, `a fast job beside it took ${fastMs.toFixed(0)} ms`);
    await cluster.addWorker();
    await untilEnded(redis, first.json().id);
    const [listed, ...ofFirst] = await Promise.all([
      call(`${other}/v1/jobs?model=digits`),
      call(`${url}/v1/jobs/${first.json().id}`, { method: "DELETE" }),
      ...askAll(url, first.json().id),
    ]);
    assertUnsettled(listed!);
    for (const answer of ofFirst) assertUnsettled(answer, first.json().id);
    for (const fast of fastIds) assert.equal((await jobView(url, fast, 60)).state, "succeeded");

    const waiting = call(`${other}/v1/jobs/${id}?wait=10`);
    replica.resume();
    const settled = await until("the repeat to settle", async () => {
      const answer = await post("frozen");
      return answer.status === 202 && answer;
    });
    assert.equal(settled.json().id, id);
    assert.equal(settled.headers["idempotent-replayed"], "true");
    assert.ok([200, 503].includes((await waiting).status));
    for (const one of [first.json().id, id]) assert.equal((await settledView(other, one)).state, "succeeded");
    await until("the list to be told", async () => (await call(`${other}/v1/jobs?model=digits`)).status === 200);

    await replica.stop();
    let tries = 0;
    await until("replicated to be refused without its replica", async () => (await post(`alone-${tries++}`)).status === 422);
    assertUnsettled(await call(`${url}/v1/jobs/${id}`), id);
  });

  test("a store that freezes under a durable job, or before it, is told in time, and what was asked is found after it", async (t) => {
    const redis = await redisFor(t);
    const replica = await replicaFor(t, redis);
    await using cluster = await startProcesses({ redis });
    const { url } = cluster;
    assert.equal((await submit(url, "replicated")).status, 202);
    replica.pause();
    let early = Promise.resolve<Answer | undefined>(undefined);
    await until("the wait to be under way", async () => {
      // a wait ends after two seconds: one that nobody saw is made again
      if ((await Promise.race([early, "going"])) !== "going") early = submit(url, "replicated", { key: "early" });
      return / flags=b .* cmd=wait /.test(String(await tell(redis, "CLIENT", "LIST")));
    });
    redis.pause();
    const late = await toldInTime(() => Promise.all([submit(url, "replicated", { key: "late" }), call(`${url}/v1/jobs?model=digits`)]));
    assertUnsettled((await early)!);
    for (const answer of late) assert.ok(answer.status === 503 && answer.tookMs <= latestMs, `${answer.status} after ${answer.tookMs} ms`);
    redis.resume();
    replica.resume();
    for (const key of ["early", "late"]) {
      const answer = await until(`job ${key} to be taken`, async () => {
        const again = await submit(url, "replicated", { key });
        return again.status === 202 && again;
      });
      assert.equal((await settledView(url, answer.json().id)).state, "succeeded");
    }
  });

  test("no job that was acknowledged as replicated is lost with its server", async (t) => {
    const redis = await redisFor(t);
    const replica = await replicaFor(t, redis);
    await using cluster = await startProcesses({ redis });
    const { url } = cluster;
    const acknowledged: string[] = [];
    let going = true;
    let refused = 0;
    const clients = Array.from({ length: 12 }, async (_, client) => {
      for (let at = 0; going; at++) {
        const answer = await submit(url, "replicated", { key: `${client}-${at}`, pixel: at % 16 });
        if (answer.status === 202) acknowledged.push(answer.json().id);
        else refused++;
      }
    });
    await until("a few hundred jobs", async () => acknowledged.length > 300, { withinMs: 60_000 });
    // as in a partition: the replica is promoted while the old server still takes jobs, none of which may be acknowledged
    await tell(replica, "REPLICAOF", "NO", "ONE");
    await until("the old server to promise nothing more", async () => refused > 50);
    await redis.kill();
    going = false;
    await Promise.all(clients);
    // they would wait for their store
    await Promise.all([...cluster.coordinators, ...cluster.workers].map((one) => one.kill()));
    const lost = [];
    for (const id of acknowledged) if ((await recordOf(replica, id)) === "") lost.push(id);
    t.diagnostic(`${acknowledged.length} jobs acknowledged, ${refused} not`);
    assert.deepEqual(lost, []);
  });

  test("an answer that is known already, and one that is waited for, are told no sooner", async (t) => {
    await using models = await emptyRepository();
    await models.add("known", layersModel(1), { settings: "cache: {ttl_s: 600}\n" });
    const redis = await redisFor(t);
    const replica = await replicaFor(t, redis);
    await using cluster = await startProcesses({ redis, models: models.folder });
    const inputs = [floats("x", [1, 32], rowsOf(1)[0]!)];
    const ask = (key: string, durability: string) =>
      call(`${cluster.url}/v1/jobs`, {
        body: { model: "known", durability, inputs },
        headers: { "idempotency-key": key, prefer: "wait=30" },
      });
    const first = await until("the first answer", async () => {
      const answer = await ask("first", "replicated");
      return answer.status !== 503 && answer;
    });
    assert.deepEqual([first.status, first.json().state, first.json().durability], [200, "succeeded", "replicated"], first.bytes.toString());
    assert.ok(first.json().result.outputs.length === 1);

    replica.pause();
    const [durable, fast] = await Promise.all([ask("durable", "replicated"), ask("fast", "fast")]);
    assert.deepEqual([fast.status, fast.json().cached], [200, true]);
    const id = assertUnsettled(durable);
    assert.match(await recordOf(redis, id), /^succeeded 1 /); // it is there, and not told
    replica.resume();
    await until("the known answer to be told", async () => {
      const again = await ask("durable", "replicated");
      return again.status === 200 && again.json().id === id && again.json().cached === true;
    });
  });

  test("doctor says which tiers the store offers, and of the others why not and what to change", async (t) => {
    const redis = await redisFor(t);
    const doctor = fileURLToPath(new URL("../../coordinator/src/embedded/doctor.ts", import.meta.url));
    const tiers = async (): Promise<string[]> => {
      const env = { ...process.env, SWITCHYARD_REDIS_URL: redis.url };
      const child = spawn(process.execPath, [doctor, "--json"], { env, stdio: ["ignore", "pipe", "inherit"] });
      const { findings } = (await json(child.stdout)) as { findings: { subject: string; found: string }[] };
      return findings.filter(({ subject }) => subject.startsWith("durability ")).map(({ subject, found }) => `${subject}: ${found}`);
    };
    const [fsync = "", replicated = ""] = await tiers();
    assert.match(fsync, /^durability fsync: not offered: .*appendfsync is everysec\. To offer it: CONFIG SET appendfsync always$/);
    assert.match(replicated, /^durability replicated: not offered: no replica is connected/);
    await setting(redis, "appendfsync", "always");
    await replicaFor(t, redis);
    assert.deepEqual(await tiers(), ["durability fsync: offered, by appendfsync always", "durability replicated: offered, by WAIT"]);
  });
});
