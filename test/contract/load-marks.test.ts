/** Marks of loads in a real store: what counts as a host that died of a model, and for how long that keeps others from it. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";

import { sendTogether, wireConnection } from "../../worker/src/redis-connection.ts";
import { LoadMarks } from "../../worker/src/runner/load-marks.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { until } from "../support/until.ts";

let server: TestRedis;
let redis: Redis;
let wire: ReturnType<typeof wireConnection>;
before(async () => {
  server = await startTestRedis();
  redis = new Redis(server.url);
  wire = wireConnection(server.url, "marks");
  // it waits for nothing, and what is not heard of is no mark
  await until("the connection", async () => {
    const [reply] = await sendTogether(wire, [["ping"]]).catch(() => []);
    return reply !== undefined;
  });
});
after(async () => {
  redis?.disconnect();
  wire?.disconnect();
  await server?.stop();
});

const minute = 60_000;
let tags = 0;
let nowMs = 1_800_000_000_000;
const newVersion = (): ModelVersion => ({ tag: `loadmark${"abcdefghijklmnopqrstuvwxyz"[tags++]}a` }) as ModelVersion;
const marksOf = (incarnation: string, hostId = incarnation): LoadMarks =>
  new LoadMarks({ send: (commands: readonly RedisCommand[]) => sendTogether(wire, commands), hostId, incarnation, nowMs: () => nowMs });
const register = (incarnation: string, state: "ready" | "lost") => redis.hset(keys.host(incarnation), "state", state);

/** Hosts that are gone in the midst of it. */
async function die(version: ModelVersion, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await marksOf(name).begin(version);
    await register(name, "lost");
  }
}

test("after three hosts that died of it a model is left alone for a minute, after more of them for longer, half an hour at most", async () => {
  const version = newVersion();
  await die(version, ["a", "b"]);
  await marksOf("c").begin(version);
  await assert.doesNotReject(marksOf("d").begin(version), "one of them is under way, as far as is known");
  await register("c", "lost");
  await register("d", "lost");
  await assert.rejects(marksOf("e").begin(version), /^Error: 4 hosts died while they loaded this model; it is tried again/);
  nowMs += 2 * minute + 1;
  await marksOf("e").begin(version);
  await register("e", "lost");
  nowMs += 2 * minute + 1;
  await assert.rejects(marksOf("f").begin(version), /^Error: 5 hosts died/);
  for (const name of ["f", "g", "h", "i"]) await redis.hset(keys.loadMarks(version.tag), name, `${nowMs} ${name}`);
  for (const name of ["f", "g", "h", "i"]) await register(name, "lost");
  nowMs += 30 * minute - 1;
  await assert.rejects(marksOf("j").begin(version), /^Error: 9 hosts died/);
  nowMs += 1;
  await redis.del(keys.loadTrial(version.tag));
  await assert.doesNotReject(marksOf("j").begin(version));
});

test("when the pause is over one host tries, and no other while that one lives", async () => {
  const version = newVersion();
  await die(version, ["aa", "ab", "ac"]);
  nowMs += minute + 1;
  const tries = await Promise.allSettled(["ad", "ae", "af"].map((name) => marksOf(name).begin(version)));
  assert.equal(tries.filter(({ status }) => status === "fulfilled").length, 1);
  await redis.del(keys.loadTrial(version.tag)); // it lapses while the load goes on
  await assert.rejects(marksOf("ag").begin(version), /^Error: 3 hosts died/);
});

test("the pause begins with the death, however long the load had taken by then", async () => {
  const version = newVersion();
  await die(version, ["ba", "bb", "bc"]);
  nowMs += 20 * minute;
  for (const name of ["ba", "bb", "bc"]) await redis.hset(keys.host(name), { beat: nowMs - 3_000, lost: nowMs });
  await assert.rejects(marksOf("bd").begin(version), /^Error: 3 hosts died/);
  nowMs += minute;
  await assert.doesNotReject(marksOf("bd").begin(version));
});

test("a load that succeeds anywhere takes all of it back, and one that fails by itself is no death", async () => {
  const version = newVersion();
  await die(version, ["k", "l", "m"]);
  await assert.rejects(marksOf("n").begin(version));
  await marksOf("o").end(version, { isLoaded: true });
  await assert.doesNotReject(marksOf("n").begin(version));
  await marksOf("n").end(version, { isLoaded: false });
  assert.equal(await redis.exists(keys.loadMarks(version.tag)), 0);
});

test("a mark of its own that could not be taken away is no death of somebody else", async () => {
  const version = newVersion();
  await die(version, ["w", "x"]);
  const own = marksOf("y");
  await own.begin(version);
  await assert.doesNotReject(own.begin(version));
});

test("hosts that start and load before they register are not taken for dead, for two minutes; the process before this one is at once", async () => {
  const version = newVersion();
  for (const name of ["p", "q", "r"]) await marksOf(name).begin(version);
  await assert.doesNotReject(marksOf("s").begin(version));
  await marksOf("s").end(version, { isLoaded: false });
  nowMs += 2 * minute + 1;
  await assert.doesNotReject(marksOf("s").begin(version), "what they died of is longer ago than a minute");
  const again = newVersion();
  for (const start of ["1", "2", "3"]) await marksOf(`start-${start}`, "same host").begin(again);
  await assert.rejects(marksOf("start-4", "same host").begin(again), /^Error: 3 hosts died/);
  await assert.doesNotReject(marksOf("start-5", "another host").begin(again));
});

test("marks go by themselves, what cannot be read counts for nothing, and without the store every model is loaded", async () => {
  const version = newVersion();
  await marksOf("t").begin(version);
  const left = await redis.pttl(keys.loadMarks(version.tag));
  assert.ok(left > 59 * minute && left <= 60 * minute, `${left}`);
  await redis.set(keys.loadMarks(version.tag), "no hash");
  await assert.doesNotReject(marksOf("u").begin(version));
  const away = new LoadMarks({ send: () => Promise.reject(new Error("away")), hostId: "v", incarnation: "v", nowMs: () => nowMs });
  await assert.doesNotReject(away.begin(version));
  await assert.doesNotReject(away.end(version, { isLoaded: true }));
});
