import assert from "node:assert/strict";
import { test } from "node:test";
import type { AliasTarget } from "@switchyard/protocol";
import { aliasTargetSchema } from "@switchyard/protocol/schemas";
import { type AliasFields, fieldsOf, standsFor, targetFrom } from "../../console/src/alias-target.ts";

const targets: AliasTarget[] = [
  { version: 2 },
  { version: 2, shadow: { version: 3, share: 0.07 } },
  { split: { "1": 90, "2": 10 } },
  { split: { "1": 1, "2": 0.5 }, shadow: { version: 3, share: 1 } },
  { alias: "stable" },
];

test("a form that is opened and sent again changes nothing", () => {
  for (const target of targets) {
    assert.ok(aliasTargetSchema.safeParse(target).success);
    assert.deepEqual(targetFrom(fieldsOf(target, "1")), target);
  }
  assert.deepEqual(targetFrom(fieldsOf(undefined, "4")), { version: 4 }, "a new alias begins with the first version");
});

test("any version may have a share, also one that is numbered by a clock, and what is no version has none", () => {
  const isRight = (version: string): boolean => aliasTargetSchema.safeParse({ split: { [version]: 1 } }).success;
  for (const version of ["1", "1732752000000000", "9007199254740991"]) assert.ok(isRight(version), version);
  for (const version of ["0", "01", "9007199254740992", "10000000000000000", "1.5", "x"]) assert.ok(!isRight(version), version);
});

test("what an alias stands for is said in words", () => {
  assert.deepEqual(targets.map(standsFor), [
    "version 2",
    "version 2; shadow: version 3 for 7 %",
    "version 1 for 90 %, version 2 for 10 %",
    "version 1 for 66.7 %, version 2 for 33.3 %; shadow: version 3 for 100 %",
    "alias stable",
  ]);
});

test("a version without a weight takes no part, and a field that is no number is named", () => {
  const fields = (some: Partial<AliasFields>): AliasFields => ({ ...fieldsOf(undefined, "1"), ...some });
  assert.deepEqual(targetFrom(fields({ kind: "split", weights: { 1: "3", 2: " " } })), { split: { "1": 3 } });
  assert.throws(() => targetFrom(fields({ kind: "split", weights: { 1: "", 2: "" } })), /at least one version/);
  assert.throws(() => targetFrom(fields({ kind: "split", weights: { 1: "much" } })), /Weight of version 1: a number, not "much"/);
  assert.throws(() => targetFrom(fields({ shadow: "2", shadowPercent: "" })), /Percent of the shadow/);
  assert.throws(() => targetFrom(fields({ kind: "alias" })), /Choose the alias/);
});
