/** A host's picture of its models: how long a failed load is held against one, and what those that it holds take. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelVersion, noRoomFor } from "@switchyard/protocol";
import type { Clock } from "../../worker/src/clock.ts";
import { HeldModels } from "../../worker/src/models/held-models.ts";

const version = { model: "digits", version: 1, tag: "aaaaaaaaaa" } as ModelVersion;
const { tag } = version;
const loaded = { version, maxItems: 8, reason: "measured", sizeBytes: 10, loadMs: 20.4, config: "mark" };

function rig() {
  let nowMs = 1_000;
  const asked: string[] = [];
  const clock = { monotonicMs: () => nowMs, sleep: () => new Promise<void>(() => {}) } as unknown as Clock;
  const held = new HeldModels({ clock, load: (one) => asked.push(one.tag) });
  return { held, asked, pass: (ms: number) => (nowMs += ms) };
}

test("a failed load is held against a model for half a second, then twice as long each time, up to half a minute", () => {
  const { held, pass } = rig();
  for (const backOffMs of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    held.failed(tag, "no such file");
    pass(backOffMs - 1);
    assert.ok(held.isBackingOff(tag), `${backOffMs} ms`);
    pass(1);
    assert.ok(!held.isBackingOff(tag), `${backOffMs} ms`);
  }
});

test("a failure is told while it counts and while the host may try again by itself, then forgotten; a load ends it at once", () => {
  const { held, pass } = rig();
  held.failed(tag, "no such file");
  assert.deepEqual(held.tellFailures(), { [tag]: "no such file" });
  pass(5_499);
  assert.deepEqual(held.tellFailures(), { [tag]: "no such file" });
  pass(1);
  assert.deepEqual(held.tellFailures(), {});
  held.failed(tag, "no such file");
  held.loaded(tag, loaded);
  assert.deepEqual([held.tellFailures(), held.isBackingOff(tag)], [{}, false]);
  assert.deepEqual(held.tellLoaded(), { [tag]: { maxItems: 8, reason: "measured", loadMs: 20, config: "mark" } });
});

test("the model that failed longest ago is the next to be tried again, when its back-off is over and it is still published", () => {
  const { held, pass } = rig();
  const other = { ...version, tag: "bbbbbbbbbb" };
  const versionOf = (one: string): ModelVersion => (one === tag ? version : other);
  held.failed(tag, "cut");
  pass(100);
  held.failed(other.tag, "cut");
  assert.equal(held.retryDue(versionOf), undefined);
  pass(500);
  assert.equal(held.retryDue(versionOf), version);
  assert.equal(
    held.retryDue((one) => (one === tag ? undefined : other)),
    other,
  );
});

test("whoever waits for a model shares one load and hears of its end, be it a failure", async () => {
  const { asked, held } = rig();
  const { signal } = new AbortController();
  const loads = [held.load(version, signal), held.load(version, signal)];
  assert.ok(held.isLoading(tag));
  held.failed(tag, "cut");
  await Promise.all(loads);
  assert.deepEqual([asked, held.isLoading()], [[tag], false]);
});

test("a host without room says so for a second each time, and holds no attempt against the model", () => {
  const { held, pass } = rig();
  for (let times = 1; times <= 4; times++) {
    held.failed(tag, noRoomFor(version, true));
    pass(999);
    assert.deepEqual([held.isBackingOff(tag), held.tellFailures()], [true, { [tag]: noRoomFor(version, true) }]);
    pass(1);
    assert.deepEqual([held.isBackingOff(tag), held.tellFailures()], [false, {}]);
  }
  held.failed(tag, "no such file");
  pass(500);
  assert.ok(!held.isBackingOff(tag));
});

test("other models are held up by a load that takes long, and by none that was answered or is long lost", () => {
  const { held, pass } = rig();
  const other = "bbbbbbbbbb";
  assert.ok(!held.isHeldUp(other));
  void held.load(version, new AbortController().signal);
  pass(249);
  assert.ok(!held.isHeldUp(other), "most loads are over sooner");
  pass(1);
  assert.ok(held.isHeldUp(other));
  assert.ok(!held.isHeldUp(tag), "its own is what it waits for");
  held.failed(tag, "no such file");
  assert.ok(!held.isHeldUp(other));
  void held.load(version, new AbortController().signal);
  pass(600_000);
  assert.ok(!held.isHeldUp(other), "it was answered otherwise");
});

test("what a run usually takes is the mean of those since the model was loaded", () => {
  const { held } = rig();
  assert.equal(held.usualRunMs(tag), 0);
  held.ran(tag, { items: 8, runMs: 100 });
  held.ran(tag, { items: 1, runMs: 50 });
  assert.equal(held.usualRunMs(tag), 75);
  held.evicted(tag);
  assert.equal(held.usualRunMs(tag), 0);
});

test("a model that several queues share counts once, and one that runs on another provider, or has other content, by itself", () => {
  const { held } = rig();
  const of = (one: string, more: Partial<ModelVersion>): void =>
    held.loaded(one, { ...loaded, version: { ...version, digest: "d", config: {}, tag: one, ...more } });
  of("plain", {});
  of("labelled", { require: { labels: { site: "north" } } });
  of("large", { require: { gpu_memory_mb: 1_000 } });
  assert.deepEqual([held.count(), held.sizeBytes(), held.tags()], [1, 10, ["plain", "labelled", "large"]]);
  of("on the GPU", { require: { providers: ["cuda"] } });
  of("newer", { version: 2, digest: "e" });
  assert.deepEqual([held.count(), held.sizeBytes()], [3, 30]);
  held.evicted("plain");
  assert.equal(held.count(), 3, "others share it yet");
  held.evicted("labelled");
  held.evicted("large");
  assert.deepEqual([held.count(), held.sizeBytes()], [2, 20]);
});

test("there is room for a model beside those that are held, each counted once, and for one that is held for another queue", () => {
  const { held } = rig();
  const held1 = { ...version, digest: "d", config: {}, sizeBytes: 10 };
  for (const one of ["plain", "labelled", "large"]) held.loaded(one, { ...loaded, version: { ...held1, tag: one } });
  const another = { ...held1, model: "other", tag: "other" };
  assert.ok(held.hasRoomFor(another, { models: 2, bytes: 40 }));
  assert.ok(!held.hasRoomFor(another, { models: 1, bytes: 40 }));
  assert.ok(!held.hasRoomFor(another, { models: 2, bytes: 39 }));
  assert.ok(held.hasRoomFor({ ...held1, tag: "one more" }, { models: 1, bytes: 20 }));
});
