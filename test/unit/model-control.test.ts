/** Loads of one model that overlap, in an order that no real load keeps to. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelState, SwitchyardError } from "@switchyard/protocol";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { ModelControl, type ModelControlParts } from "../../coordinator/src/application/model-control.ts";
import { systemClock } from "../../coordinator/src/clock.ts";

test("a load that fails does not undo another one that asked for the same and succeeded", async () => {
  let entry: ModelState | undefined;
  const ends: ((error?: Error) => void)[] = [];
  const version = { model: "m", version: 1 };
  const control = new ModelControl({
    store: {
      all: async () => new Map(),
      change: async (_model: string, change: (found: ModelState | undefined, nowMs: number) => ModelState | undefined) => {
        entry = change(entry, 0);
        return entry;
      },
    },
    models: { versions: () => [{ version }], resolve: () => ({ version }), promised: () => [version] },
    loads: {
      ensure: () => new Promise<void>((resolve, reject) => ends.push((error) => (error ? reject(error) : resolve()))),
    },
    takeOver: async () => {},
    clock: systemClock,
    log: { info() {}, warn() {}, error() {} },
  } as unknown as ModelControlParts);
  const load = (): Promise<void> => control.load("m", {}, localCaller, new AbortController().signal);
  const [first, second] = [load(), load()];
  while (ends.length < 2) await new Promise((resolve) => setImmediate(resolve));
  ends[1]!();
  await second;
  ends[0]!(new SwitchyardError("model_not_ready", "the client went away"));
  await assert.rejects(first, { code: "load_failed" });
  assert.equal(entry?.state, "loaded");
  const third = load();
  while (ends.length < 3) await new Promise((resolve) => setImmediate(resolve));
  const wanted = entry?.requestId;
  ends[2]!(new SwitchyardError("model_not_ready", "too slow"));
  await assert.rejects(third, { code: "load_failed" });
  assert.deepEqual([entry?.state, entry?.requestId === wanted], ["loaded", false], "as it was before");
});

test("a configuration that is deeper than any is refused, and what is refused of one is quoted to an end", async () => {
  const parts = { models: {}, store: {}, log: { info() {}, warn() {}, error() {} } } as unknown as ModelControlParts;
  const load = (config: string): Promise<void> => new ModelControl(parts).load("m", { config }, localCaller, new AbortController().signal);
  const deep = `${"[".repeat(32_000)}${"]".repeat(32_000)}`;
  for (const config of [`{"max_batch_size":${deep}}`, `{"name":${deep}}`, "no json"]) {
    await assert.rejects(load(config), { code: "load_failed", message: "failed to load 'm': config is no JSON of at most 64 levels" });
  }
  const long = JSON.stringify({ max_batch_size: Array.from({ length: 100_000 }, () => 1) });
  await assert.rejects(
    load(long),
    (error: Error) => /max_batch_size: expected .*, got \[1,1,1/.test(error.message) && error.message.length < 300,
  );
});
