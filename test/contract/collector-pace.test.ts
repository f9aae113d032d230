/** Beside a large store Redis' Lua collects its garbage sooner; a sweep sets its pace, in a server that was started anew as well. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { redisRigs } from "../support/file-rigs.ts";

const rigs = await redisRigs();

/** The pace that is set, which the question replaces by the one that Lua begins with. */
const pace = (): Promise<unknown> => rigs.redis.eval("return collectgarbage('setpause', 200)", 0);
const many = 100_000;

test("a sweep has Lua collect at once where there are many keys, and once its memory has doubled where there are few", async () => {
  const rig = rigs.rig();
  await pace();
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 200);
  const fill =
    "for part = 1, ARGV[1] / 1000 do local all = {} for at = 1, 1000 do all[2 * at - 1], all[2 * at] = KEYS[1] .. part .. ':' .. at, '' end redis.call('MSET', unpack(all)) end";
  await rigs.redis.eval(fill, 1, "{filling}:", many);
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 100);
  await rigs.redis.flushdb();
  await rig.store.sweep(rig.tag, 1, 1);
  assert.equal(await pace(), 200);
});
