import assert from "node:assert/strict";
import { test } from "node:test";
import { type Offer, offersOf, type StoreFacts } from "../../coordinator/src/adapters/durability-offers.ts";

const unknownCommand = new Error("ERR unknown command 'waitaof'");
const usual = { appendonly: "yes", appendfsync: "everysec", "no-appendfsync-on-rewrite": "no" };

type Wishes = { server?: string; aof?: string; replica?: string; settings?: Record<string, string> | Error };

function facts(more: Wishes & Partial<Omit<StoreFacts, "settings">> = {}): StoreFacts {
  const { server = "redis_version:7.0.15", aof = "1", replica = "", settings = usual, ...rest } = more;
  return {
    info: `${server}\r\naof_enabled:${aof}\r\nrole:master\r\nconnected_slaves:${replica === "" ? 0 : 1}\r\n${replica}`,
    wait: 0,
    waitAof: unknownCommand,
    ...rest,
    settings: settings instanceof Error ? settings : new Map(Object.entries(settings)),
  };
}

const redis8 = { server: "redis_version:8.0.0", waitAof: [1, 0] };
const valkey = { server: "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1", waitAof: [1, 0] };
const always = { ...usual, appendfsync: "always" };

function assertRefused(offer: Offer, why: RegExp, fix: RegExp): void {
  assert.ok("why" in offer, JSON.stringify(offer));
  assert.match(offer.why, why);
  assert.match(offer.fix, fix);
}

test("a store without a WAITAOF that waits offers fsync only while it syncs with every write, also during rewrites", () => {
  assertRefused(offersOf(facts()).fsync, /Redis 7\.0\.15, has no WAITAOF.*appendfsync is everysec/, /^CONFIG SET appendfsync always$/);
  assert.deepEqual(offersOf(facts({ settings: always })).fsync, { by: "always" });
  const whileRewriting = facts({ settings: { ...always, "no-appendfsync-on-rewrite": "yes" } });
  assertRefused(offersOf(whileRewriting).fsync, /no-appendfsync-on-rewrite is yes/, /^CONFIG SET no-appendfsync-on-rewrite no$/);
  assertRefused(offersOf(facts({ aof: "0", settings: always })).fsync, /no append-only file/, /CONFIG SET appendonly yes/);
});

test("a WAITAOF that answers before the sync is not believed", () => {
  assertRefused(offersOf(facts(valkey)).fsync, /Valkey 8\.0\.1, has no WAITAOF that waits.*appendfsync is everysec/, /appendfsync always/);
  assert.deepEqual(offersOf(facts({ ...valkey, settings: always })).fsync, { by: "always" });
  assertRefused(offersOf(facts({ ...redis8, server: "redis_version:7.4.2" })).fsync, /Redis 7\.4\.2/, /appendfsync always/);
  assert.deepEqual(offersOf(facts(redis8)).fsync, { by: "waitaof" });
});

test("a store that does not tell its settings offers fsync only by WAITAOF, which proves itself", () => {
  const hidden = new Error("ERR unknown command 'config'");
  assertRefused(offersOf(facts({ settings: hidden })).fsync, /does not tell its settings/, /allow CONFIG GET/);
  assertRefused(offersOf(facts({ ...valkey, settings: hidden })).fsync, /does not tell its settings/, /allow CONFIG GET/);
  assert.deepEqual(offersOf(facts({ ...redis8, settings: hidden })).fsync, { by: "waitaof" });
});

test("WAITAOF does not help where nobody syncs the file, or where this user may not call it", () => {
  const unsynced = { ...usual, appendfsync: "no" };
  assertRefused(offersOf(facts({ ...redis8, settings: unsynced })).fsync, /appendfsync no/, /appendfsync everysec/);
  assertRefused(offersOf(facts({ ...redis8, aof: "0" })).fsync, /no append-only file/, /appendonly yes/);
  const barred = { ...redis8, waitAof: new Error("NOPERM this user has no permissions to run the 'waitaof' command") };
  assertRefused(offersOf(facts(barred)).fsync, /refuses WAITAOF/, /appendfsync always/);
});

test("replicated is offered while a replica is in step", () => {
  const online = "slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0\r\n";
  assert.deepEqual(offersOf(facts({ replica: online })).replicated, { by: "wait" });
  assertRefused(offersOf(facts()).replicated, /no replica is connected/, /replicaof/);
  const copied = facts({ replica: online.replace("online", "wait_bgsave") });
  assertRefused(offersOf(copied).replicated, /none of them in step/, /caught up/);
  assertRefused(offersOf(facts({ replica: online, wait: new Error("NOPERM no") })).replicated, /refuses WAIT/, /access list/);
  assertRefused(offersOf(facts({ info: new Error("NOPERM no") })).replicated, /refuses INFO/, /access list/);
});
