/** What hosts tell of their runs, through lua/report on a real Redis, and what coordinators read of it. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { count, countRun, type DeviceRuns, emptyTally, type QueueTally, windowRuns } from "@switchyard/protocol";
import { keys, newIncarnation, queueTag } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisModelStatistics } from "../../coordinator/src/adapters/redis-model-statistics.ts";
import { RedisRunHistory } from "../../coordinator/src/adapters/redis-run-history.ts";
import { CacheTallies } from "../../coordinator/src/application/cache-tallies.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { RunReports } from "../../worker/src/presence/run-reports.ts";
import { clockPasses, succeeded } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;
let rigs: RedisRigs;
let connection: RedisConnection;
let history: RedisRunHistory;

before(async () => {
  server = await startTestRedis();
  rigs = await RedisRigs.open(server.url);
  connection = new RedisConnection(server.url, "history", systemClock);
  await connection.open();
  history = new RedisRunHistory(connection);
});

after(async () => {
  await connection?.close();
  await rigs?.close();
  await server?.stop();
});

const newTag = (): string => queueTag("reports", randomBytes(8).toString("hex"));
const report = (tag: string, ...facts: [field: string, most: number, text: string][]) =>
  rigs.script("report", keys.base(tag), ["test", 0, ...facts.flat()]);
const fieldsOf = (tag: string): Promise<Record<string, string>> => rigs.redis.hgetall(`${keys.base(tag)}runs`);
const runsOf = async (tag: string, device = "cpu"): Promise<DeviceRuns | undefined> => (await history.read([tag])).get(tag)?.get(device);
/** A host's reports, of one device class. */
function reportsOf(device = "cpu", incarnation = newIncarnation()) {
  const reports = new RunReports(rigs.redis, incarnation);
  return {
    loaded: reports.loaded.bind(reports),
    counted: reports.counted.bind(reports),
    ran: reports.ran.bind(reports),
    flush: () => reports.flush(device),
  };
}
const sample = (runMs: number, more: { size?: number; items?: number } = {}) => ({
  overheadMs: 2,
  sample: { size: 0, items: 1, atMs: 1_000 + runMs, ...more, runMs },
});
const timesIn = (runs: DeviceRuns | undefined, size = 0): number[] =>
  (runs?.windows.get(size) ?? []).flatMap((window) => window.runs.map(({ runMs }) => runMs));

test("a field keeps the newest of its entries, in the order in which they were told", async () => {
  const tag = newTag();
  await report(tag, ["f", 3, "1 2"]);
  assert.deepEqual(await fieldsOf(tag), { f: "1 2" });
  await report(tag, ["f", 3, "3 4"]);
  assert.deepEqual(await fieldsOf(tag), { f: "2 3 4" });
  await report(tag, ["f", 3, "5 6 7 8"]);
  assert.deepEqual(await fieldsOf(tag), { f: "6 7 8" });
});

test("a field that keeps none is replaced, and one call may tell several", async () => {
  const tag = newTag();
  await report(tag, ["one", 0, "1"], ["many", 2, "1"]);
  await report(tag, ["one", 0, "2 3"], ["many", 2, "2"]);
  assert.deepEqual(await fieldsOf(tag), { one: "2 3", many: "1 2" });
});

test("a report that is repeated counts its samples twice and harms nothing else", async () => {
  const tag = newTag();
  for (let at = 0; at < 2; at++) await report(tag, ["cpu runs 0 1", 50, "5,1,2.500"], ["cpu load", 0, "7.0"]);
  const runs = await runsOf(tag);
  assert.deepEqual([timesIn(runs), runs?.loadMs], [[2.5, 2.5], 7]);
});

test("a report is taken by a store that has no memory left", async () => {
  const tag = newTag();
  await rigs.redis.config("SET", "maxmemory", "1mb");
  try {
    await report(tag, ["f", 3, "1"]);
  } finally {
    await rigs.redis.config("SET", "maxmemory", String(1024 ** 3));
  }
  assert.deepEqual(await fieldsOf(tag), { f: "1" });
});

test("a host tells with one beat what its runs took since the last, and nothing twice", async () => {
  const tag = newTag();
  const reports = reportsOf("cpu über alles");
  reports.loaded(tag, { warmUp: [[1, 4]], loadMs: 90 });
  reports.ran(tag, sample(3));
  reports.ran(tag, sample(8, { items: 4 }));
  reports.ran(tag, sample(50, { size: 9 }));
  await reports.flush();
  await reports.flush();
  const runs = await runsOf(tag, "cpu über alles");
  assert.deepEqual(timesIn(runs), [3, 8]);
  assert.deepEqual(timesIn(runs, 9), [50]);
  assert.deepEqual([runs?.warmUp, runs?.loadMs, runs?.overheadMs], [[[1, 4]], 90, 2]);
  reports.ran(tag, sample(5));
  await reports.flush();
  assert.deepEqual(timesIn(await runsOf(tag, "cpu über alles")), [3, 5, 8]);
});

test("a run that is no sample moves what claims cost, and no run times", async () => {
  const tag = newTag();
  const reports = reportsOf();
  reports.ran(tag, { overheadMs: 6 });
  await reports.flush();
  const runs = await runsOf(tag);
  assert.deepEqual([runs?.overheadMs, runs?.windows.size], [6, 0]);
});

test("a host tells once a second what its runs and those of others took, and what could not be told is told with the next", async () => {
  const tag = newTag();
  const reports = reportsOf();
  const ran = (atMs: number, ownMs: number, othersMs: number): void =>
    reports.ran(tag, { overheadMs: 1, time: { atMs, runs: 1, ownMs, othersMs, idleMs: 0.5, idleRuns: 1, sharers: 2 } });
  const times = async () => (await runsOf(tag))?.times.map(({ host: _host, ...time }) => time);
  ran(1_000, 10, 5);
  ran(2_000, 20, 0);
  await reports.flush();
  ran(2_999, 1, 2);
  await reports.flush();
  const first = { atMs: 2_000, runs: 2, ownMs: 30, othersMs: 5, idleMs: 1, idleRuns: 2, sharers: 2 };
  assert.deepEqual(await times(), [first], "too soon");
  ran(3_000, 3, 1);
  await reports.flush();
  await reports.flush();
  const second = { atMs: 3_000, runs: 2, ownMs: 4, othersMs: 3, idleMs: 1, idleRuns: 2, sharers: 2 };
  assert.deepEqual(await times(), [first, second]);
  ran(4_000, 4, 4);
  await rigs.redis.rename(`${keys.base(tag)}runs`, `${keys.base(tag)}kept`);
  await rigs.redis.set(`${keys.base(tag)}runs`, "no hash");
  const flush = reports.flush();
  ran(4_500, 6, 0);
  await assert.rejects(flush, /WRONGTYPE/);
  await rigs.redis.rename(`${keys.base(tag)}kept`, `${keys.base(tag)}runs`);
  await reports.flush();
  assert.deepEqual(await times(), [first, second, { atMs: 4_500, runs: 2, ownMs: 10, othersMs: 4, idleMs: 1, idleRuns: 2, sharers: 2 }]);
  ran(4_600, 900, 900);
  ran(60_000, 5, 0);
  await reports.flush();
  const alone = { atMs: 60_000, runs: 1, ownMs: 5, othersMs: 0, idleMs: 0.5, idleRuns: 1, sharers: 2 };
  assert.deepEqual((await times())?.at(-1), alone, "what was left over long ago is told no more");
  ran(30_000, 6, 0);
  await reports.flush();
  assert.deepEqual((await times())?.at(-1), { ...alone, atMs: 30_000, ownMs: 6 }, "the store's clock was set back");
  const other = reportsOf();
  other.ran(tag, { overheadMs: 1, time: { atMs: 31_000, runs: 1, ownMs: 1, othersMs: 1, idleMs: 0.5, idleRuns: 1, sharers: 2 } });
  await other.flush();
  const hosts = (await runsOf(tag))?.times.map(({ host }) => host) ?? [];
  assert.equal(new Set(hosts).size, 2);
  assert.equal(new Set(hosts.slice(0, -1)).size, 1);
});

test("hosts of one device class share their figures, queues do not", async () => {
  const tag = newTag();
  for (const ms of [3, 4]) {
    const reports = reportsOf();
    reports.ran(tag, sample(ms));
    await reports.flush();
  }
  const other = reportsOf("gpu");
  other.ran(tag, sample(1));
  await other.flush();
  assert.deepEqual(timesIn(await runsOf(tag)), [3, 4]);
  assert.deepEqual(timesIn(await runsOf(tag, "gpu")), [1]);
  assert.deepEqual(await history.read([newTag()]), new Map());
});

test("what could not be told is told with a later beat, before what came since", async () => {
  const [good, bad] = [newTag(), newTag()];
  const name = `${keys.base(bad)}runs`;
  await rigs.redis.set(name, "no hash");
  const reports = reportsOf();
  reports.loaded(bad, { warmUp: [], loadMs: 90 });
  reports.ran(bad, sample(1));
  const failed = reports.flush();
  reports.ran(bad, sample(2));
  await assert.rejects(failed, /WRONGTYPE/);
  reports.ran(good, sample(3));
  await assert.rejects(reports.flush(), /WRONGTYPE/);
  await assert.rejects(reports.flush(), /WRONGTYPE/);
  assert.deepEqual(timesIn(await runsOf(good)), [3], "one queue does not keep the others from being told");
  await rigs.redis.del(name);
  await reports.flush();
  const runs = await runsOf(bad);
  assert.deepEqual([timesIn(runs), runs?.loadMs], [[1, 2], 90]);
});

test("a newer load is not overwritten by one that could not be told", async () => {
  const tag = newTag();
  const name = `${keys.base(tag)}runs`;
  await rigs.redis.set(name, "no hash");
  const reports = reportsOf();
  reports.loaded(tag, { warmUp: [[1, 9]], loadMs: 90 });
  const failed = reports.flush();
  reports.loaded(tag, { warmUp: [[1, 5]], loadMs: 50 });
  await assert.rejects(failed, /WRONGTYPE/);
  await rigs.redis.del(name);
  await reports.flush();
  assert.equal((await runsOf(tag))?.loadMs, 50);
});

test("a host without its store keeps a bound of samples, the newest", async () => {
  const tag = newTag();
  const name = `${keys.base(tag)}runs`;
  await rigs.redis.set(name, "no hash");
  const reports = reportsOf();
  for (let ms = 1; ms <= 1_000; ms++) {
    reports.ran(tag, sample(ms, { items: 2 ** (ms % 8) })); // spread, so that no window is full
    if (ms % 300 === 0) await assert.rejects(reports.flush(), /WRONGTYPE/);
  }
  await rigs.redis.del(name);
  await reports.flush();
  const times = timesIn(await runsOf(tag)).sort((a, b) => a - b);
  assert.deepEqual([times.length, times[0], times.at(-1)], [200, 801, 1_000]);
});

test("a window holds no more runs than estimates look at", async () => {
  const tag = newTag();
  const reports = reportsOf();
  for (let ms = 1; ms <= 70; ms++) reports.ran(tag, sample(ms));
  await reports.flush();
  const times = timesIn(await runsOf(tag));
  assert.deepEqual([times.length, times[0], times.at(-1)], [windowRuns, 71 - windowRuns, 70]);
});

test("fields that cannot be read blind a coordinator to nothing else", async () => {
  const tag = newTag();
  await report(tag, ["%E0%A4%A runs 0 1", 9, "5,1,2"], ["cpu runs 0 1", 9, "x,y,z 5,1,2.500"], ["cpu load", 0, "soon"]);
  const runs = (await history.read([tag])).get(tag);
  assert.deepEqual([...(runs?.keys() ?? [])], ["cpu"]);
  assert.deepEqual([timesIn(runs?.get("cpu")), runs?.get("cpu")?.loadMs], [[2.5], undefined]);
});

const statistics = (reporter = "reader") => new RedisModelStatistics(connection, reporter);
const tallyOf = async (tag: string): Promise<QueueTally> => (await statistics().read([tag])).get(tag) ?? emptyTally();
const oneRun = (items = 2): QueueTally => {
  const tally = emptyTally();
  countRun(tally, { items, jobs: 1, inputMs: 0.5, inferMs: 3, outputMs: 0.25 });
  count(tally.success, 1, 12);
  tally.lastMs = 1_700_000_000_000 + items;
  return tally;
};

test("what hosts and coordinators have counted adds up, and any coordinator reads the same", async () => {
  const tag = newTag();
  for (const items of [2, 3]) {
    const reports = reportsOf();
    reports.counted(tag, oneRun(items));
    reports.counted(tag, oneRun(items));
    await reports.flush();
    await reports.flush();
  }
  const tallies = new CacheTallies(statistics("coordinator"));
  tallies.hit(tag, 1.5, 1_800_000_000_000);
  tallies.joined(tag, 20, 1_700_000_000_000);
  tallies.missed(tag, 2);
  await tallies.tell();
  await tallies.tell();
  const tally = await tallyOf(tag);
  assert.deepEqual([tally.runs, tally.items, tally.lastMs], [4, 10, 1_800_000_000_000]);
  assert.deepEqual(
    [tally.success, tally.queue],
    [
      { count: 6, ms: 4 * 12 + 21.5 },
      { count: 2, ms: 20 },
    ],
  );
  assert.deepEqual(
    [tally.hit, tally.miss],
    [
      { count: 2, ms: 1.5 },
      { count: 1, ms: 2 },
    ],
  );
  assert.deepEqual(tally.batches.get(3), { runs: 2, inputMs: 1, inferMs: 6, outputMs: 0.5 });
  assert.deepEqual(await statistics("another").read([tag, newTag()]), new Map([[tag, tally]]));
});

test("a queue whose counts cannot be told keeps none of the others waiting, and is told later", async () => {
  const [broken, fine] = [newTag(), newTag()] as const;
  let isBroken = true;
  const real = statistics("coordinator");
  const tallies = new CacheTallies({
    add: (tag, next) => (isBroken && tag === broken ? Promise.reject(new Error("its server is away")) : real.add(tag, next)),
  });
  for (const tag of [broken, fine]) tallies.hit(tag, 1, 1_800_000_000_000);
  await assert.rejects(tallies.tell(), /away/);
  assert.deepEqual([(await tallyOf(broken)).hit.count, (await tallyOf(fine)).hit.count], [0, 1]);
  isBroken = false;
  await tallies.tell();
  assert.deepEqual([(await tallyOf(broken)).hit.count, (await tallyOf(fine)).hit.count], [1, 1]);
});

test("a report that is repeated is counted once", async () => {
  const tag = newTag();
  const tally = oneRun();
  for (let at = 0; at < 3; at++) await statistics("one").add(tag, { sequence: 4, tally });
  await statistics("one").add(tag, { sequence: 3, tally }); // late
  assert.equal((await tallyOf(tag)).runs, 1);
  await statistics("one").add(tag, { sequence: 5, tally });
  await statistics("two").add(tag, { sequence: 1, tally });
  assert.deepEqual([(await tallyOf(tag)).runs, (await tallyOf(tag)).success], [3, { count: 3, ms: 36 }]);
});

test("a report whose answer was lost is told again, counted once, and nothing that came since is lost", async () => {
  const tag = newTag();
  let lost = 2;
  const losing = {
    evalsha: async (...args: Parameters<typeof rigs.redis.evalsha>) => {
      const reply = await rigs.redis.evalsha(...args);
      if (lost-- > 0) throw new Error("the connection was closed");
      return reply;
    },
    eval: rigs.redis.eval.bind(rigs.redis),
  } as unknown as typeof rigs.redis;
  await report(tag); // teaches the script
  const reports = new RunReports(losing, "host-with-a-bad-line");
  reports.counted(tag, oneRun());
  await assert.rejects(reports.flush("cpu"), /closed/);
  reports.counted(tag, oneRun());
  await assert.rejects(reports.flush("cpu"), /closed/);
  for (let at = 0; at < 3; at++) await reports.flush("cpu");
  assert.deepEqual([(await tallyOf(tag)).runs, (await tallyOf(tag)).items], [2, 4]);
});

test("counters of one queue that cannot be told do not keep those of others, and are all told later", async () => {
  const [good, bad] = [newTag(), newTag()];
  await rigs.redis.set(`${keys.base(bad)}tally`, "no hash");
  const reports = reportsOf();
  reports.counted(bad, oneRun());
  reports.counted(good, oneRun());
  await assert.rejects(reports.flush(), /WRONGTYPE/);
  assert.equal((await tallyOf(good)).runs, 1);
  reports.counted(bad, oneRun());
  await assert.rejects(reports.flush(), /WRONGTYPE/);
  await rigs.redis.del(`${keys.base(bad)}tally`);
  await reports.flush();
  await reports.flush();
  assert.equal((await tallyOf(bad)).runs, 2);
});

test("the numbers of processes that are long gone are forgotten when another one comes", async () => {
  const tag = newTag();
  const name = `${keys.base(tag)}tally`;
  await statistics("gone").add(tag, { sequence: 9, tally: oneRun() });
  await statistics("there").add(tag, { sequence: 9, tally: oneRun() });
  const [sequence, atMs] = (await rigs.redis.hget(name, "told gone"))!.split(" ");
  await rigs.redis.hset(name, "told gone", `${sequence} ${Number(atMs) - 3_700_000}`);
  await statistics("new").add(tag, { sequence: 1, tally: oneRun() });
  assert.deepEqual(
    Object.keys(await rigs.redis.hgetall(name))
      .filter((field) => field.startsWith("told "))
      .sort(),
    ["told new", "told there"],
  );
  assert.equal((await tallyOf(tag)).runs, 3);
});

test("counters beyond what a number holds exactly go on growing", async () => {
  const tag = newTag();
  await rigs.redis.hset(`${keys.base(tag)}tally`, "queue", "3 90000000000000000");
  const tally = emptyTally();
  count(tally.queue, 1, 1e12);
  await statistics("one").add(tag, { sequence: 1, tally });
  assert.deepEqual(await rigs.redis.hget(`${keys.base(tag)}tally`, "queue"), "4 91000000000000000");
});

test("each job that ends otherwise than well is counted once, whoever ends it", async () => {
  const rig = rigs.rig();
  const fails = async () => (await tallyOf(rig.tag)).fail.count;
  const cancelled = await rig.admit();
  for (let at = 0; at < 2; at++) await rig.store.cancel(cancelled);
  assert.equal(await fails(), 1, "a cancel");
  const late = await rig.admit({ timeoutMs: 20, latestStartMs: 10 });
  await clockPasses(rig.store, (await rig.record(late)).deadlineMs);
  for (let at = 0; at < 2; at++) await rig.store.expire([late]);
  assert.equal(await fails(), 2, "a deadline that somebody waited for");
  const swept = await rig.admit({ timeoutMs: 20, latestStartMs: 10 });
  await clockPasses(rig.store, (await rig.record(swept)).deadlineMs);
  for (let at = 0; at < 2; at++) await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await fails(), 3, "a deadline that nobody waited for");

  const [good, bad, dropped] = [
    await rig.admit(),
    await rig.admit({ maxAttempts: 1 }),
    await rig.admit({ timeoutMs: 20, latestStartMs: 10 }),
  ];
  await clockPasses(rig.store, (await rig.record(dropped)).deadlineMs);
  const { host, ticket } = await rig.hostWithTicket();
  const jobs = await host.batch(ticket);
  assert.equal(await fails(), 4, "one that a claim dropped");
  const error = { code: "run_failed", detail: "no", retryable: false };
  const outcomes = jobs.map((job) =>
    job.id === bad ? { id: job.id, fence: job.fence, outcome: "failed" as const, error } : succeeded(job),
  );
  for (let at = 0; at < 2; at++) await host.commit(ticket, outcomes);
  assert.deepEqual(
    [await fails(), (await rig.record(good)).state],
    [5, "succeeded"],
    "one that failed on its host; the other is its host's to count",
  );
  const poison = await rig.admit({ maxAttempts: 1 });
  const next = await rig.hostWithTicket("host-2").catch(() => undefined);
  const taker = next ?? { host, ticket };
  assert.deepEqual(
    (await taker.host.batch(taker.ticket)).map(({ id }) => id),
    [poison],
  );
  for (let at = 0; at < 2; at++) await rig.store.takeBack(rig.tag, taker.host.incarnation, 1, 1);
  assert.equal(await fails(), 6, "one whose host died");
  const { ms } = (await tallyOf(rig.tag)).fail;
  assert.ok(ms >= 60 && ms < 60_000, `${ms} ms from admission to their ends`);
});

test("what was counted goes with its queue", async () => {
  const rig = rigs.rig();
  await statistics("one").add(rig.tag, { sequence: 1, tally: oneRun() });
  await rig.store.forgetQueue(rig.tag);
  assert.deepEqual(await rigs.redis.exists(`${keys.base(rig.tag)}tally`), 0);
});
