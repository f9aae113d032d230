import assert from "node:assert/strict";
import { test } from "node:test";
import { readRedisAddress, shownAddress, slotOf } from "@switchyard/protocol/redis";

test("an address names one server, a master that sentinels know, or nodes of a cluster", () => {
  assert.deepEqual(readRedisAddress("redis://127.0.0.1:7000"), {
    form: "standalone",
    tls: false,
    nodes: [{ host: "127.0.0.1", port: 7000 }],
    db: 0,
  });
  assert.deepEqual(readRedisAddress("rediss://me:p%40ss@store.example/3"), {
    form: "standalone",
    tls: true,
    nodes: [{ host: "store.example", port: 6379 }],
    db: 3,
    username: "me",
    password: "p@ss",
  });
  assert.deepEqual(readRedisAddress("redis+sentinel://:secret@a:1,b,[::1]:3/yard/2?sentinel_user=u&sentinel_password=w"), {
    form: "sentinel",
    tls: false,
    nodes: [
      { host: "a", port: 1 },
      { host: "b", port: 26_379 },
      { host: "::1", port: 3 },
    ],
    db: 2,
    password: "secret",
    masterName: "yard",
    sentinelUsername: "u",
    sentinelPassword: "w",
  });
  assert.equal(readRedisAddress("rediss+cluster://me:pw@a:7000,b:7001")?.nodes.length, 2);
  assert.equal(readRedisAddress("redis://:a:b@host")?.password, "a:b");
});

test("what is no address of a known form is none", () => {
  for (const text of [
    "http://host:1",
    "redis://",
    "redis://a:1,b:2",
    "redis://host:70000",
    "redis://host/one",
    "redis://host/0/1",
    "redis://host?tls=yes",
    "redis+sentinel://host:1",
    "redis+sentinel:///yard",
    "redis+cluster://host:1/2",
    "redis+cluster://a,,b",
    "redis+other://host",
  ]) {
    assert.equal(readRedisAddress(text), undefined, text);
  }
});

test("an address is shown without its secrets", () => {
  const shown = shownAddress("rediss+sentinel://me:hunter2@a:1,[::1]:2/yard?sentinel_password=hunter3");
  assert.equal(shown, "rediss+sentinel://a:1,[::1]:2/yard");
});

test("a key's slot is that of its hash tag, as Redis computes it", () => {
  assert.equal(slotOf("123456789"), 0x31c3);
  assert.equal(slotOf("{user1000}.following"), slotOf("{user1000}.followers"));
  assert.equal(slotOf("foo{}{bar}"), 8363);
  assert.equal(slotOf("foo{{bar}}zap"), slotOf("{bar"));
  assert.equal(slotOf("foo{bar}{zap}"), slotOf("bar"));
});
