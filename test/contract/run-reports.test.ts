/** What hosts tell of their runs, through lua/report on a real Redis, and what coordinators read of it. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { type DeviceRuns, windowRuns } from "@switchyard/protocol";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisRunHistory } from "../../coordinator/src/adapters/redis-run-history.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { RunReports } from "../../worker/src/presence/run-reports.ts";
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
  rigs.script("report", keys.base(tag), facts.flat());
const fieldsOf = (tag: string): Promise<Record<string, string>> => rigs.redis.hgetall(`${keys.base(tag)}runs`);
const runsOf = async (tag: string, device = "cpu"): Promise<DeviceRuns | undefined> => (await history.read([tag])).get(tag)?.get(device);
/** A host's reports, of one device class. */
function reportsOf(device = "cpu") {
  const reports = new RunReports(rigs.redis);
  return {
    loaded: reports.loaded.bind(reports),
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
