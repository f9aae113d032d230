/** Beside a large store Redis' Lua collects its garbage sooner; a sweep sets its pace, in a server that was started anew as well. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { redisRigs } from "../support/file-rigs.ts";

const rigs = await redisRigs();

/** The pace that is set, which the question replaces by one that nobody else sets. */
const pace = (): Promise<unknown> => rigs.redis.eval("return collectgarbage('setpause', 150)", 0);
const many = 100_000;

test("a sweep has Lua collect at once where there are many keys, and once its memory has doubled where there are few", async () => {
  const rig = rigs.rig();
  await pace();
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 200);
  for (let from = 0; from < many; from += 1_000) {
    await rigs.redis.mset(...Array.from({ length: 1_000 }, (_, at) => [`filling:${from + at}`, ""]).flat());
  }
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 100);
  await rigs.redis.script("FLUSH"); // a new interpreter, as that of a server that was started anew
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 100);
  await rigs.redis.flushdb();
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 200);
});
