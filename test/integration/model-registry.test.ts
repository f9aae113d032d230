/** A registry on a real Redis, when whoever wrote could not tell of it. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keys } from "@switchyard/protocol/redis";
import { RedisAliases } from "../../coordinator/src/adapters/redis-aliases.ts";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisModelStates } from "../../coordinator/src/adapters/redis-model-states.ts";
import { RedisModels } from "../../coordinator/src/adapters/redis-models.ts";
import { RedisUploads } from "../../coordinator/src/adapters/redis-uploads.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { HostDirectory } from "../../coordinator/src/ports/host-registry.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";

let server: TestRedis;
let redis: RedisConnection;
let laterMs = 0;
before(async () => {
  server = await startTestRedis();
  redis = new RedisConnection(server.url, "registry", { ...systemClock, nowMs: () => Date.now() + laterMs });
  await redis.open();
});
after(async () => {
  await redis?.close();
  await server?.stop();
});

test("what was written and never told is seen half a minute later", async () => {
  const models = new RedisModels(redis, {} as HostDirectory, {
    uploads: new RedisUploads(redis),
    aliases: new RedisAliases(redis),
    states: new RedisModelStates(redis),
    chance: () => 0,
  });
  await models.publish([]);
  const entry = { target: { version: 1 }, previous: [], updatedMs: 0 };
  await redis.sendAll([["hset", keys.aliases, "cut/stable", JSON.stringify(entry)]]);
  await models.look();
  assert.equal(models.aliases("cut"), undefined);
  laterMs = 31_000;
  await models.look();
  assert.deepEqual(models.aliases("cut")?.get("stable"), entry);
});
