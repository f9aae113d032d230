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

function registry(...first: ModelVersion[]) {
  const store = { rows: first, revision: 1, held: undefined as Promise<void> | undefined };
  const redis = {
    get: async () => (store.revision === 0 ? null : String(store.revision)),
    async hvals() {
      const rows = store.rows.map((row) => JSON.stringify(row));
      await store.held;
      return rows;
    },
    hgetall: async () => ({}),
  };
  const publish = (...rows: ModelVersion[]): void => {
    store.rows = rows;
    store.revision += 1;
  };
  return { known: new KnownModels(redis as unknown as RedisClient), publish, store };
}

const removed = (known: KnownModels): string[] | undefined => known.takeChange()?.removed.map(({ tag }) => tag);

test("uploaded versions that leave the registry are told once, and none of a folder, which may be out of sight", async () => {
  const { known, publish } = registry(version("folder"), version("uploaded", { files: [] }), version("stays", { files: [] }));
  await known.refresh();
  assert.deepEqual(removed(known), []);
  publish(version("stays", { files: [] }));
  await known.refresh();
  assert.deepEqual(removed(known), ["uploaded"]);
  publish(version("stays", { files: [] }));
  await known.refresh();
  assert.deepEqual(removed(known), []);
  await known.refresh();
  assert.equal(known.takeChange(), undefined);
});

test("a change is told to whoever follows it, also when another saw it first, and what several changes removed is told together", async () => {
  const [one, two, back] = ["one", "two", "back"].map((name) => version(name, { files: [] })) as [ModelVersion, ModelVersion, ModelVersion];
  const { known, publish } = registry(one, two, back);
  await known.refresh();
  assert.deepEqual(removed(known), []);
  publish(two);
  await known.refresh();
  publish(back);
  await known.refresh();
  await known.refresh();
  assert.deepEqual(removed(known), ["one", "two"]);
});

test("looks at the registry that overlap lose nothing of what was removed, and none brings back what an earlier one saw", async () => {
  const { known, publish, store } = registry(version("uploaded", { files: [] }));
  await known.refresh();
  assert.deepEqual(removed(known), []);
  publish();
  const slow = Promise.withResolvers<void>();
  store.held = slow.promise;
  const looks = [known.refresh()];
  await new Promise(setImmediate);
  store.held = undefined;
  publish(version("new"));
  looks.push(known.refresh(), known.refresh());
  await new Promise(setImmediate);
  slow.resolve();
  await Promise.all(looks);
  assert.ok(known.byTag("new"));
  assert.deepEqual(removed(known), ["uploaded"]);
});

test("a store that lost the registry has removed nothing: hosts keep what they hold until it is there again", async () => {
  const uploaded = version("uploaded", { files: [] });
  const { known, publish, store } = registry(uploaded);
  await known.refresh();
  known.takeChange();
  Object.assign(store, { rows: [], revision: 0 });
  await known.refresh();
  assert.equal(known.takeChange(), undefined);
  publish(version("folder"));
  await known.refresh();
  assert.deepEqual(removed(known), [], "coordinators publish it again one after the other");
});
