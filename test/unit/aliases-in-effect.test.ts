/** From when on an alias stands for what was asked. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { AliasTarget, ModelAlias } from "@switchyard/protocol";
import { aliasesInEffect } from "../../coordinator/src/adapters/aliases-in-effect.ts";
import type { AllAliases } from "../../coordinator/src/ports/alias-store.ts";

const of = (aliases: Record<string, AliasTarget>): AllAliases =>
  new Map([
    ["m", new Map(Object.entries(aliases).map(([name, target]): [string, ModelAlias] => [name, { target, previous: [], updatedMs: 0 }]))],
  ]);

function inEffect(found: Record<string, AliasTarget>, before: Record<string, AliasTarget> | undefined, known: number[]): unknown {
  const made = aliasesInEffect(of(found), before && of(before), (_model, version) => known.includes(version));
  return Object.fromEntries([...(made.get("m") ?? [])].map(([name, { target }]) => [name, target]));
}

test("an alias waits for every version that it names, its shadow's too", () => {
  const before = { stable: { version: 1 } };
  for (const target of [{ version: 2 }, { split: { "1": 90, "2": 10 } }, { version: 1, shadow: { version: 2, share: 0.5 } }]) {
    assert.deepEqual(inEffect({ stable: target }, before, [1]), before);
    assert.deepEqual(inEffect({ stable: target }, before, [1, 2]), { stable: target });
  }
});

test("an alias of another one waits for nothing itself, and one that was removed is gone", () => {
  assert.deepEqual(inEffect({ default: { alias: "stable" } }, { default: { version: 1 }, stable: { version: 1 } }, [1]), {
    default: { alias: "stable" },
  });
});

test("what an alias stood for is not kept when that is gone too", () => {
  assert.deepEqual(inEffect({ stable: { version: 2 } }, { stable: { version: 1 } }, [3]), { stable: { version: 2 } });
});

test("a new alias of an unknown version is refused by its version, and a new default does not take the place of none", () => {
  const found = { stable: { version: 2 }, default: { version: 2 } };
  assert.deepEqual(inEffect(found, {}, [1]), { stable: { version: 2 } });
  assert.deepEqual(inEffect(found, undefined, [1]), found, "of a coordinator that has just started");
});
