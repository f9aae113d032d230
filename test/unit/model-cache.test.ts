import assert from "node:assert/strict";
import { test } from "node:test";
import { estimatedModelBytes, isNoRoom, isRoomAwaited, type ModelVersion } from "@switchyard/protocol";
import type { Clock } from "../../worker/src/clock.ts";
import type { LoadedModel } from "../../worker/src/runtime/loaded-model.ts";
import { ModelCache, type ModelCacheOptions } from "../../worker/src/runtime/model-cache.ts";

const fileBytes = 1000;

function version(model: string, change: Partial<ModelVersion> = {}): ModelVersion {
  const signature = { inputs: [], outputs: [] };
  return { model, version: 1, digest: model, tag: model, sizeBytes: fileBytes, path: "", signature, config: {}, ...change };
}

function rig(limits: Partial<ModelCacheOptions> = {}) {
  const events: string[] = [];
  const time = { nowMs: 0 };
  const broken = new Set<string>();
  let residentBytes = 0;
  let gate: Promise<void> = Promise.resolve();
  const cache = new ModelCache({
    root: "",
    clock: { monotonicMs: () => time.nowMs } as Clock,
    maxBytes: 1e12,
    maxModels: 2,
    threads: 1,
    providers: ["cpu"],
    onLoaded: (model) => events.push(`loaded ${model.version.model}`),
    onFailed: (failed, reason) => events.push(`failed ${failed.model}: ${reason}`),
    onEvicted: (evicted) => {
      events.push(`leaving ${evicted}`);
    },
    residentBytes: () => residentBytes,
    load: async (wanted) => {
      events.push(`load ${wanted.model}`);
      await gate;
      if (wanted.model === "unfolding") residentBytes += 5e9;
      if (broken.has(wanted.model)) throw new Error("no good");
      const release = async (): Promise<void> => {
        events.push(`released ${wanted.model}`);
      };
      return { version: wanted, sizeBytes: fileBytes, release } as unknown as LoadedModel;
    },
    ...limits,
  });
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    return resolve;
  };
  const names = (): string[] => cache.warm().map((model) => model.version.model);
  return { cache, events, time, broken, hold, names };
}

test("callers who want the same model at once share one load", async () => {
  const { cache, events, hold } = rig();
  const open = hold();
  const asked = [cache.ensure(version("a")), cache.ensure(version("a"))];
  open();
  const [one, other] = await Promise.all(asked);
  assert.equal(one, other);
  assert.equal(await cache.ensure(version("a")), one);
  assert.deepEqual(events, ["load a", "loaded a"]);
});

test("the least recently used model goes first, and its owner hears of it before its memory is freed", async () => {
  const { cache, events, names } = rig();
  await cache.ensure(version("a"));
  await cache.ensure(version("b"));
  cache.touch(version("a"));
  await cache.ensure(version("c"));
  assert.deepEqual(names(), ["a", "c"]);
  assert.deepEqual(events.slice(4), ["leaving b", "released b", "load c", "loaded c"]);
});

test("models go when the bytes run out, and one alone may exceed them", async () => {
  const { cache, names } = rig({ maxModels: 100, maxBytes: 2 * estimatedModelBytes(fileBytes) });
  for (const name of ["a", "b", "c"]) await cache.ensure(version(name));
  assert.deepEqual(names(), ["b", "c"]);
  await cache.ensure(version("giant", { sizeBytes: 1e9 }));
  assert.deepEqual(names(), ["giant"]);
});

test("a small file that unfolds in memory counts with what the process has grown by", async () => {
  const { cache, names } = rig({ maxModels: 100, maxBytes: 4e9 });
  await cache.ensure(version("unfolding"));
  assert.equal(cache.usedBytes, 5e9);
  await cache.ensure(version("a"));
  assert.deepEqual(names(), ["a"]);
});

test("a model in use is never let go", async () => {
  const { cache, events, names } = rig();
  await cache.use(version("a"), async () => {
    await cache.ensure(version("b"));
    await cache.ensure(version("c"));
    assert.deepEqual(names(), ["a", "c"]);
    assert.equal(await cache.evict(version("a")), false);
    const unpin = cache.pin(version("c"));
    await assert.rejects(cache.ensure(version("d")), { code: "model_not_ready", message: /no room for d version 1/ });
    assert.equal(events.at(-1), "failed d: no room for d version 1: every loaded model is in use or kept");
    unpin();
    unpin();
    await cache.ensure(version("d"));
    assert.deepEqual(names(), ["a", "d"]);
  });
  assert.equal(await cache.evict(version("a")), true);
});

test("a model that does not load is left alone for a while, longer each time, and forgiven when it loads", async () => {
  const { cache, events, time, broken } = rig();
  broken.add("a");
  await assert.rejects(cache.ensure(version("a")), { code: "model_not_ready", message: "no good", facts: { retryAfterMs: 500 } });
  time.nowMs = 499;
  await assert.rejects(cache.ensure(version("a")), { facts: { retryAfterMs: 1 } });
  assert.deepEqual(events, ["load a", "failed a: no good"]);
  for (const waitMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    time.nowMs = cache.failed()[0]!.retryAtMs;
    await assert.rejects(cache.ensure(version("a")), { facts: { retryAfterMs: waitMs } });
  }
  assert.equal(cache.failed()[0]!.attempts, 8);
  time.nowMs = cache.failed()[0]!.retryAtMs;
  broken.clear();
  await cache.ensure(version("a"));
  assert.deepEqual(cache.failed(), []);
});

test("another configuration of the same version replaces the loaded one", async () => {
  const { cache, events } = rig();
  await cache.ensure(version("a"));
  const model = await cache.ensure(version("a", { config: { max_batch_items: 4 } }));
  assert.equal(model.version.config.max_batch_items, 4);
  assert.deepEqual(events, ["load a", "loaded a", "leaving a", "released a", "load a", "loaded a"]);
});

test("clearing lets every model go", async () => {
  const { cache, names } = rig();
  await cache.ensure(version("a"));
  await cache.ensure(version("b"));
  await cache.clear();
  assert.deepEqual(names(), []);
  assert.equal(cache.usedBytes, 0);
});

test("a queue that leaves a model which others share takes nothing from them", async () => {
  const { cache, events, names } = rig();
  await cache.ensure(version("a"));
  await cache.ensure(version("a", { tag: "a-choosy", require: { labels: { site: "north" } } }));
  assert.equal(await cache.evict(version("a", { tag: "a-choosy", require: { labels: { site: "north" } } })), true);
  assert.deepEqual(names(), ["a"]);
  assert.deepEqual(events.slice(-1), ["leaving a-choosy"]);
  assert.equal(await cache.evict(version("a")), true);
  assert.deepEqual([names(), events.slice(-2)], [[], ["leaving a", "released a"]]);
});

test("where all that is held is kept no run that ends makes room", async () => {
  const { cache } = rig();
  for (const name of ["a", "b"]) await cache.ensure(version(name));
  const reasonOf = (asked: string): Promise<string> =>
    cache.ensure(version(asked)).then(
      () => "loaded",
      (error: Error) => error.message,
    );
  cache.keep(["a", "b"]);
  const kept = await reasonOf("c");
  assert.deepEqual([isNoRoom(kept), isRoomAwaited(kept)], [true, false], kept);
  cache.keep(["a"]);
  const unpin = cache.pin(version("b"));
  const inUse = await reasonOf("c");
  assert.deepEqual([isNoRoom(inUse), isRoomAwaited(inUse)], [true, true], inUse);
  unpin();
  assert.equal(await reasonOf("c"), "loaded");
});

test("a model that is to be kept is not let go, be it asked for", async () => {
  const { cache, names } = rig();
  await cache.ensure(version("a"));
  cache.keep(["a"]);
  assert.equal(await cache.evict(version("a")), false);
  assert.deepEqual(names(), ["a"]);
  cache.keep([]);
  assert.equal(await cache.evict(version("a")), true);
});

test("whoever marks loads hears of each before it begins and when it is over, and may forbid it with a reason", async () => {
  const told: string[] = [];
  const marks: NonNullable<ModelCacheOptions["marks"]> = {
    async begin({ model }) {
      told.push(`begin ${model}`);
      if (model === "forbidden") throw new Error("three hosts died of it");
    },
    async end({ model }, { isLoaded }) {
      told.push(`end ${model} ${isLoaded}`);
    },
  };
  const { cache, broken, events, names } = rig({ marks, maxModels: 1 });
  await cache.ensure(version("a"));
  await assert.rejects(cache.ensure(version("forbidden")), { message: "three hosts died of it", code: "model_not_ready" });
  assert.deepEqual(names(), ["a"], "what may not be loaded pushes nothing out");
  assert.deepEqual(events.slice(-1), ["failed forbidden: three hosts died of it"]);
  broken.add("b");
  await assert.rejects(cache.ensure(version("b")), { message: "no good" });
  cache.keep(["c"]);
  await cache.ensure(version("c"));
  await assert.rejects(cache.ensure(version("d")), { code: "model_not_ready" });
  const ends = ["begin b", "end b false", "begin c", "end c true", "begin d", "end d false"];
  assert.deepEqual(told, ["begin a", "end a true", "begin forbidden", ...ends]);
});
