/** Which version a request of an alias gets. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { aliasTargetSchema } from "@switchyard/protocol/schemas";
import { chooseVersion, mainVersion, sharesOf } from "../../coordinator/src/scheduler/traffic-split.ts";

const all = (): boolean => true;

test("a split shares requests by weight, whatever the weights add up to", () => {
  const shares = sharesOf({ split: { 1: 90, 2: 30, 3: 0 } }, all);
  assert.deepEqual(
    shares,
    new Map([
      [1, 0.75],
      [2, 0.25],
    ]),
  );
  const got = new Map<number, number>();
  for (let at = 0; at < 1_000; at++) {
    const version = chooseVersion(shares, at / 1_000)!;
    got.set(version, (got.get(version) ?? 0) + 1);
  }
  assert.deepEqual(
    got,
    new Map([
      [1, 750],
      [2, 250],
    ]),
  );
});

test("a version that cannot be served leaves its share to the others, and keeps it when there are none", () => {
  const split = { split: { 1: 90, 2: 5, 3: 5 } };
  assert.deepEqual(
    sharesOf(split, (version) => version !== 1),
    new Map([
      [2, 0.5],
      [3, 0.5],
    ]),
  );
  assert.equal(sharesOf(split, () => false).get(1), 0.9);
  assert.deepEqual(
    sharesOf({ version: 4 }, () => false),
    new Map([[4, 1]]),
  );
});

test("the last version takes what rounding leaves", () => {
  assert.equal(
    chooseVersion(
      new Map([
        [1, 0.3],
        [2, 0.3],
        [3, 0.3],
      ]),
      0.999_999,
    ),
    3,
  );
});

test("an alias stands for exactly one thing", () => {
  const right = [{ version: 1 }, { split: { 1: 1, 2: 0 } }, { alias: "stable" }, { version: 1, shadow: { version: 2, share: 1 } }];
  for (const target of right) assert.ok(aliasTargetSchema.safeParse(target).success, JSON.stringify(target));
  const wrong = [
    {},
    { version: 1, split: { 2: 1 } },
    { version: 0 },
    { split: {} },
    { split: { 1: 0 } },
    { split: { one: 1 } },
    { split: { 1: -1 } },
    { version: 1, shadow: { version: 2, share: 0 } },
    { version: 1, shadow: { version: 2, share: 1.5 } },
    { alias: "Stable" },
    { version: 1, other: true },
  ];
  for (const target of wrong) assert.ok(!aliasTargetSchema.safeParse(target).success, JSON.stringify(target));
});

test("the main version of a split is that with the largest share, of equal ones the highest", () => {
  assert.equal(mainVersion(sharesOf({ split: { 1: 90, 2: 30 } }, all)), 1);
  assert.equal(mainVersion(sharesOf({ split: { 1: 50, 3: 50, 2: 10 } }, all)), 3);
  assert.equal(mainVersion(sharesOf({ version: 7 }, all)), 7);
  assert.equal(mainVersion(new Map()), undefined);
});
