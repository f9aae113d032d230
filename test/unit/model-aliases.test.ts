/** A promotion that waits while others change its alias. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type AliasTarget, type ModelAlias, SwitchyardError } from "@switchyard/protocol";
import { ModelAliases, type ModelAliasesParts } from "../../coordinator/src/application/model-aliases.ts";

const of = { model: "m", alias: "stable" };

interface Removals {
  /** Uploaded versions that there are. */
  uploads: Map<number, { leavingMs?: number }>;
  /** Called after the alias is written. */
  written: () => void;
  /** How many writes the store refuses. */
  lost: number;
}

function aliasesWhile(load: () => Promise<void>, removals: Removals = { uploads: new Map(), written: () => {}, lost: 0 }): ModelAliases {
  let entry: ModelAlias | undefined;
  const { uploads } = removals;
  const signature = { inputs: [], outputs: [] };
  return new ModelAliases({
    store: {
      all: async () => new Map([["m", new Map(entry ? [["stable", entry]] : [])]]),
      change: async (_of: unknown, change: (before: ModelAlias | undefined, nowMs: number) => ModelAlias | undefined) => {
        if (removals.lost-- > 0) throw new SwitchyardError("store_unavailable", "away");
        entry = change(entry, 0);
        removals.written();
        return entry;
      },
    },
    models: {
      versions: () => [{}],
      aliases: () => undefined,
      resolve(model: string, version: number) {
        if (uploads.size > 0 && !uploads.has(version)) throw new SwitchyardError("version_not_found", "gone");
        return { state: "available", version: { model, version, signature, ...(uploads.has(version) && { files: [] }) } };
      },
    },
    uploads: {
      find: async ({ model, version }: { model: string; version: number }) =>
        uploads.has(version) ? { model, version, ...uploads.get(version) } : undefined,
    },
    clock: { sleep: async () => {} },
    loads: { ensure: load },
    takeOver: async () => {},
    log: { info() {}, warn() {}, error() {} },
  } as unknown as ModelAliasesParts);
}

for (const [what, meanwhile, outcome] of [
  ["nothing", undefined, { version: 2 }],
  ["another target", { version: 3 }, undefined],
  ["the same target", { version: 2 }, { version: 2 }],
] as [string, AliasTarget | undefined, AliasTarget | undefined][]) {
  test(`a promotion during which ${what} came ${outcome ? "is made" : "is refused"}`, async () => {
    const aliases: ModelAliases = aliasesWhile(async () => {
      if (meanwhile) await aliases.put(of, meanwhile);
    });
    await aliases.put(of, { version: 1 });
    const promotion = aliases.promote(of, { version: 2 }, new AbortController().signal);
    if (outcome) await promotion;
    else await assert.rejects(promotion, { code: "changed_meanwhile" });
    assert.deepEqual((await aliases.get(of)).target, outcome ?? meanwhile);
  });
}

for (const [what, remove, code] of [
  ["is marked as leaving", (uploads) => uploads.set(2, { leavingMs: 1 }), "model_not_ready"],
  ["is gone", (uploads) => uploads.delete(2), "version_not_found"],
] as [string, (uploads: Removals["uploads"]) => void, string][]) {
  test(`an alias whose version ${what} when it is written is taken back, though the store is away for a moment`, async () => {
    const removals: Removals = { uploads: new Map([1, 2].map((version) => [version, {}])), written: () => {}, lost: 0 };
    const aliases = aliasesWhile(async () => {}, removals);
    await aliases.put(of, { version: 1 });
    const before = await aliases.get(of);
    removals.written = () => {
      removals.written = () => {};
      remove(removals.uploads);
      removals.lost = 2;
    };
    await assert.rejects(aliases.put(of, { version: 2 }), { code });
    assert.deepEqual(await aliases.get(of), before);
  });
}

test("an alias is not written for a version that is being removed", async () => {
  const removals: Removals = { uploads: new Map([[1, { leavingMs: 1 }]]), written: () => assert.fail("written"), lost: 0 };
  await assert.rejects(aliasesWhile(async () => {}, removals).put(of, { version: 1 }), { code: "model_not_ready" });
});

for (const how of ["promotion", "roll back"] as const) {
  test(`a ${how} to a version that is removed while it waits for the load is refused`, async () => {
    const removals: Removals = { uploads: new Map([1, 2].map((version) => [version, {}])), written: () => {}, lost: 0 };
    // what is loaded is another version with the same content
    const aliases = aliasesWhile(async () => void removals.uploads.delete(1), removals);
    await aliases.put(of, { version: 1 });
    await aliases.put(of, { version: 2 });
    const { signal } = new AbortController();
    await assert.rejects(how === "promotion" ? aliases.promote(of, { version: 1 }, signal) : aliases.rollBack(of, signal), {
      code: "version_not_found",
    });
    assert.deepEqual((await aliases.get(of)).target, { version: 2 });
  });
}
