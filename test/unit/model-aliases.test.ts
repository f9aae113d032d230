/** A promotion that waits while others change its alias. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { AliasTarget, ModelAlias } from "@switchyard/protocol";
import { ModelAliases, type ModelAliasesParts } from "../../coordinator/src/application/model-aliases.ts";

const of = { model: "m", alias: "stable" };

function aliasesWhile(load: () => Promise<void>): ModelAliases {
  let entry: ModelAlias | undefined;
  const signature = { inputs: [], outputs: [] };
  return new ModelAliases({
    store: {
      all: async () => new Map([["m", new Map(entry ? [["stable", entry]] : [])]]),
      change: async (_of: unknown, change: (before: ModelAlias | undefined, nowMs: number) => ModelAlias | undefined) => {
        entry = change(entry, 0);
        return entry;
      },
    },
    models: {
      versions: () => [{}],
      aliases: () => undefined,
      resolve: (model: string, version: number) => ({ state: "available", version: { model, version, signature } }),
    },
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
