/** Batches that are filled up to one size: what is run, what is answered, and when it pays. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Tensor, tensor, toTypedArray } from "@switchyard/protocol";
import { costOfChange, isCostly, PaddedSession } from "../../worker/src/runtime/padded-session.ts";
import type { Session } from "../../worker/src/runtime/session.ts";

/** Answers twice each value, and the number of items in the run as `rows`, which has no such axis. */
function doubling(seen: number[][] = []): Session {
  const value = (name: string) => ({ name, datatype: "FP32" as const, shape: [-1, 2] });
  return {
    inputs: [value("x")],
    outputs: [value("y"), value("rows")],
    async run([x]: readonly Tensor[]) {
      const values = toTypedArray(x!) as Float32Array;
      seen.push([...values]);
      const y = tensor(
        "y",
        Float32Array.from(values, (number) => 2 * number),
        [...x!.shape],
      );
      return new Map([
        ["y", y],
        ["rows", tensor("rows", Float32Array.of(x!.shape[0]!), [])],
      ]);
    },
    release: async () => {},
  };
}

const rows = (...values: number[]): Tensor => tensor("x", Float32Array.from(values), [values.length / 2, 2]);

test("a batch that is not whole runs whole, and answers for its own items only", async () => {
  const seen: number[][] = [];
  const session = new PaddedSession(doubling(seen), 4);
  const answer = await session.run([rows(1, 2, 3, 4)], ["y"]);
  assert.deepEqual(seen, [[1, 2, 3, 4, 1, 2, 1, 2]], "filled with copies of the first item");
  const y = answer.get("y")!;
  assert.deepEqual(
    [y.shape, [...(toTypedArray(y) as Float32Array)]],
    [
      [2, 2],
      [2, 4, 6, 8],
    ],
  );
  assert.equal((toTypedArray(answer.get("rows")!) as Float32Array)[0], 4, "what has no axis of items is answered as it is");
  // memory that a longer batch left behind shows nowhere
  await session.run([rows(9, 9, 9, 9, 9, 9)], ["y"]);
  const next = await session.run([rows(5, 6)], ["y"]);
  assert.deepEqual(seen.at(-1), [5, 6, 5, 6, 5, 6, 5, 6]);
  assert.deepEqual([...(toTypedArray(next.get("y")!) as Float32Array)], [10, 12]);
});

test("whole batches, larger ones and those that cannot be filled run as they are", async () => {
  const seen: number[][] = [];
  const session = new PaddedSession(doubling(seen), 2);
  for (const feed of [rows(1, 2, 3, 4), rows(1, 2, 3, 4, 5, 6), tensor("x", Float32Array.of(7), [])]) await session.run([feed], ["y"]);
  assert.deepEqual(seen, [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [7]]);
});

test("a change of size costs what the cheapest of several took beyond a steady run, and it pays to avoid it where that is long", async () => {
  let last = 8;
  let extra = 100;
  const take = async (items: number): Promise<number> => {
    const changed = items !== last;
    last = items;
    extra += 10;
    return (items === 8 ? 3 : 2) + (changed ? extra : 0);
  };
  const sizes = { whole: { items: 8, steadyMs: 3 }, part: { items: 4, steadyMs: 2 } };
  assert.equal(await costOfChange({ ...sizes, take }), 110);
  assert.equal(await costOfChange({ ...sizes, take: async (items) => (items === 8 ? 3 : 1.5) }), 0, "never below nothing");
  assert.deepEqual([isCostly(110, 3), isCostly(110, 200), isCostly(2, 0.5)], [true, false, false]);
});
