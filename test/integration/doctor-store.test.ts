/** What doctor says of a store, whatever its form: each thing that would lose jobs has a line that says how to mend it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { keys } from "@switchyard/protocol/redis";
import { readConfig } from "../../coordinator/src/config.ts";
import type { Finding } from "../../coordinator/src/embedded/finding.ts";
import { storeFindings } from "../../coordinator/src/embedded/store-check.ts";
import { ask, RedisFarm, startSentinels } from "../support/redis-forms.ts";

async function look(url: string): Promise<(subject: string) => Finding | undefined> {
  const findings = await storeFindings(readConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: url } }), undefined);
  for (const { fix, state, subject } of findings)
    assert.equal(fix === undefined, state === "ok", `${subject}: advice where something is wrong`);
  return (subject) => findings.find((finding) => finding.subject === subject);
}

test("a server that keeps jobs is found well, and each setting that does not is named with its remedy", async () => {
  await using farm = await RedisFarm.open();
  const { port } = await farm.start("one", (own) => [`port ${own}`]);
  const url = `redis://127.0.0.1:${port}`;
  const well = await look(url);
  for (const subject of ["store", "version", "eviction", "memory limit", "append-only file", "connections", "clock"]) {
    assert.equal(well(subject)?.state, "ok", subject);
  }
  assert.match(well("store")!.found, /one server/);
  assert.match(well("append-only file")!.found, /on, appendfsync everysec/);
  assert.equal(well("replicas"), undefined, "one server needs none");

  const set = (name: string, value: string): Promise<unknown> => ask(port, (redis) => redis.config("SET", name, value));
  await set("appendfsync", "no");
  assert.match((await look(url))("append-only file")!.fix!, /appendfsync everysec/);
  await set("appendonly", "no");
  assert.match((await look(url))("append-only file")!.fix!, /appendonly yes/);
  await set("maxmemory-policy", "allkeys-lru");
  assert.equal((await look(url))("eviction")!.state, "missing");
  await set("maxmemory-policy", "noeviction");
  await set("maxmemory", "0");
  assert.match((await look(url))("memory limit")!.found, /none/);
  const used = Number(/^used_memory:(\d+)/m.exec(await ask(port, (redis) => redis.info("memory")))![1]);
  await set("maxmemory", String(Math.round(used / 0.9)));
  assert.match((await look(url))("memory limit")!.found, /jobs are refused now/);
  await set("maxmemory", "512mb");
  await ask(port, (redis) => redis.set(keys.format, "1"));
  assert.match((await look(url))("layout")!.found, /jobs in layout 1/);
});

test("a store that is not there, and one whose sentinels know no such master, are told in words", async () => {
  await using farm = await RedisFarm.open();
  const { port } = await farm.start("one", (own) => [`port ${own}`]);
  const sentinel = await farm.start("sentinel", (own) => [`port ${own}`, `sentinel monitor yard 127.0.0.1 ${port} 1`], "sentinel");
  assert.match((await look("redis://127.0.0.1:1"))("store")!.found, /ECONNREFUSED/);
  assert.match((await look(`redis+sentinel://127.0.0.1:${sentinel.port}/elsewhere`))("store")!.found, /sentinels/i);
  assert.match((await look(`redis+cluster://127.0.0.1:${port}`))("store")!.found, /is no node of a cluster/);
});

test("of a master that sentinels know, doctor asks for replicas that writes need, and for every sentinel's address", async () => {
  await using farm = await RedisFarm.open();
  const { master, url } = await startSentinels(farm, { downAfterMs: 5_000 });
  const found = await look(url);
  assert.match(found("store")!.found, /the master that its sentinels name/);
  assert.match(found("replicas")!.fix!, /min-replicas-to-write 1/);
  await ask(master.port, (redis) => redis.config("SET", "min-replicas-to-write", "1"), { password: "hunter2" });
  assert.equal((await look(url))("replicas")!.state, "ok");
  assert.match((await look(url.replace(/,[^/]*\//, "/")))("store")!.fix!, /name the other sentinels/);
});
