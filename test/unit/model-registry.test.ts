/** What a registry answers before it has read anything. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisModels } from "../../coordinator/src/adapters/redis-models.ts";
import type { HostDirectory } from "../../coordinator/src/ports/host-registry.ts";

test("a coordinator that knows no models yet denies none: it tells to come back", () => {
  const models = new RedisModels({} as RedisConnection, {} as HostDirectory, {
    uploads: {} as never,
    aliases: {} as never,
    states: {} as never,
    chance: () => 0,
  });
  assert.throws(() => models.resolve("digits"), { code: "model_not_ready", retryable: true });
});
