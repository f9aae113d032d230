/** What a host makes of the registry. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelVersion } from "@switchyard/protocol";
import { KnownModels } from "../../worker/src/models/known-models.ts";
import type { RedisClient } from "../../worker/src/redis-client.ts";

const version = (model: string, change: Partial<ModelVersion> = {}): ModelVersion => ({
  ...{ model, version: 1, digest: model, tag: model, sizeBytes: 1, path: "", signature: { inputs: [], outputs: [] }, config: {} },
  ...change,
});

test("a host loads nothing ahead of requests that failed or was unloaded, but knows it: what was admitted before must end", async () => {
  const rows = [version("plain"), version("broken", { failure: "cut" }), version("gone", { unloaded: true })];
  const redis = { get: async () => "1", hvals: async () => rows.map((row) => JSON.stringify(row)), hgetall: async () => ({}) };
  const known = new KnownModels(redis as unknown as RedisClient);
  await known.refresh();
  assert.deepEqual(
    known.loadable().map(({ model }) => model),
    ["plain"],
  );
  assert.equal(known.byTag("gone")?.unloaded, true);
});

test("uploaded versions that leave the registry are told once, and none of a folder, which may be out of sight", async () => {
  let rows = [version("folder"), version("uploaded", { files: [] }), version("stays", { files: [] })];
  let revision = 1;
  const redis = { get: async () => String(revision), hvals: async () => rows.map((row) => JSON.stringify(row)), hgetall: async () => ({}) };
  const known = new KnownModels(redis as unknown as RedisClient);
  await known.refresh();
  assert.deepEqual(known.removed(), []);
  rows = [version("stays", { files: [] })];
  revision++;
  await known.refresh();
  assert.deepEqual(
    known.removed().map(({ tag }) => tag),
    ["uploaded"],
  );
  revision++;
  await known.refresh();
  assert.deepEqual(known.removed(), []);
});
