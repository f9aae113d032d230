import assert from "node:assert/strict";
import { test } from "node:test";
import { type Offer, offersOf, type StoreFacts } from "../../coordinator/src/adapters/durability-offers.ts";

const unknownCommand = new Error("ERR unknown command 'waitaof'");
const usual = { appendonly: "yes", appendfsync: "everysec", "no-appendfsync-on-rewrite": "no" };

function facts(
  more: { aof?: string; replica?: string; settings?: Record<string, string> | Error } & Partial<Omit<StoreFacts, "settings">> = {},
): StoreFacts {
  const { aof = "1", replica = "", settings = usual, ...rest } = more;
  return {
    info: `redis_version:7.0.15\r\naof_enabled:${aof}\r\nrole:master\r\nconnected_slaves:${replica === "" ? 0 : 1}\r\n${replica}`,
    wait: 0,
    waitAof: unknownCommand,
    ...rest,
    settings: settings instanceof Error ? settings : new Map(Object.entries(settings)),
  };
}

const always = { ...usual, appendfsync: "always" };

function assertRefused(offer: Offer, why: RegExp, fix: RegExp): void {
  assert.ok("why" in offer, JSON.stringify(offer));
  assert.match(offer.why, why);
  assert.match(offer.fix, fix);
}

test("a store without WAITAOF offers fsync only while it syncs with every write, also during rewrites", () => {
  assertRefused(
    offersOf(facts()).fsync,
    /version 7\.0\.15, has no WAITAOF.*appendfsync is everysec/,
    /upgrade it, or CONFIG SET appendfsync always$/,
  );
  assert.deepEqual(offersOf(facts({ settings: always })).fsync, { by: "always" });
  const whileRewriting = facts({ settings: { ...always, "no-appendfsync-on-rewrite": "yes" } });
  assertRefused(offersOf(whileRewriting).fsync, /no-appendfsync-on-rewrite is yes/, /CONFIG SET no-appendfsync-on-rewrite no$/);
  assertRefused(offersOf(facts({ aof: "0", settings: always })).fsync, /no append-only file/, /CONFIG SET appendonly yes/);
});

test("a store that does not tell its settings offers fsync only by WAITAOF, which proves itself", () => {
  const hidden = new Error("ERR unknown command 'config'");
  assertRefused(offersOf(facts({ settings: hidden })).fsync, /does not tell its settings/, /allow CONFIG GET/);
  assert.deepEqual(offersOf(facts({ settings: hidden, waitAof: [0, 0] })).fsync, { by: "waitaof" });
});

test("WAITAOF does not help where nobody syncs the file, or where this user may not call it", () => {
  assert.deepEqual(offersOf(facts({ waitAof: [1, 0] })).fsync, { by: "waitaof" });
  assertRefused(
    offersOf(facts({ waitAof: [1, 0], settings: { ...usual, appendfsync: "no" } })).fsync,
    /appendfsync no/,
    /appendfsync everysec/,
  );
  assertRefused(offersOf(facts({ waitAof: [1, 0], aof: "0" })).fsync, /no append-only file/, /appendonly yes/);
  const barred = new Error("NOPERM this user has no permissions to run the 'waitaof' command");
  assertRefused(offersOf(facts({ waitAof: barred })).fsync, /refuses WAITAOF/, /access list/);
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
