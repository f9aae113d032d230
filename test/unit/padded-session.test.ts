/** Batches that are filled up to one size: what is run, what is answered, and when it pays. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Datatype, type Tensor, type TensorSignature, tensor, toTypedArray } from "@switchyard/protocol";
import { canFillUp, costOfChange, isDear, PaddedSession } from "../../worker/src/runtime/padded-session.ts";
import { RunFailure, type Session } from "../../worker/src/runtime/session.ts";

/** Answers twice each value, and the number of items in the run as `rows`, which has no such axis. */
function doubling(seen: number[][] = []): Session {
  const value = (name: string) => ({ name, datatype: "FP32" as const, shape: [-1, 2] });
  return {
    inputs: [value("x")],
    outputs: [value("y"), value("rows")],
    async run([x], wanted) {
      const values = toTypedArray(x!) as Float32Array;
      seen.push([...values]);
      const y = tensor(
        "y",
        Float32Array.from(values, (number) => 2 * number),
        [...x!.shape],
      );
      const answers = [y, tensor("rows", Float32Array.of(x!.shape[0]!), [])];
      return new Map(answers.filter(({ name }) => wanted.includes(name)).map((one) => [one.name, one]));
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
  // memory that a longer batch left behind shows nowhere
  await session.run([rows(9, 9, 9, 9, 9, 9)], ["y"]);
  const next = await session.run([rows(5, 6)], ["y"]);
  assert.deepEqual(seen.at(-1), [5, 6, 5, 6, 5, 6, 5, 6]);
  assert.deepEqual([...(toTypedArray(next.get("y")!) as Float32Array)], [10, 12]);
});

test("whole batches, larger ones and those that cannot be filled run as they are", async () => {
  const seen: number[][] = [];
  const session = new PaddedSession(doubling(seen), 2);
  const runs = [[rows(1, 2, 3, 4)], [rows(1, 2, 3, 4, 5, 6)], [rows(8, 9), rows(1, 2, 3, 4)], [tensor("x", Float32Array.of(7), [])]];
  for (const feeds of runs) await session.run(feeds, ["y"]);
  assert.deepEqual(seen, [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [8, 9], [7]]);
});

test("several inputs are filled, each in memory of its own", async () => {
  const feeds: number[][] = [];
  const inner: Session = {
    ...doubling(),
    async run(given) {
      for (const one of given) feeds.push([...(toTypedArray(one) as Float32Array)]);
      return new Map([["y", tensor("y", Float32Array.of(1, 2, 3), [3])]]);
    },
  };
  const session = new PaddedSession(inner, 3);
  const answer = await session.run([rows(1, 2), { ...rows(3, 4), name: "z" }], ["y"]);
  assert.deepEqual(feeds, [
    [1, 2, 1, 2, 1, 2],
    [3, 4, 3, 4, 3, 4],
  ]);
  assert.deepEqual([answer.get("y")!.shape, answer.get("y")!.bytes.length], [[1], 4]);
});

test("an output that does not follow the items is answered by a run of them alone, from then on all are", async () => {
  const seen: number[][] = [];
  const session = new PaddedSession(doubling(seen), 4);
  const answer = await session.run([rows(1, 2)], ["y", "rows"]);
  assert.deepEqual([answer.get("y")!.shape, (toTypedArray(answer.get("rows")!) as Float32Array)[0]], [[1, 2], 1]);
  await session.run([rows(3, 4)], ["y"]);
  assert.deepEqual(seen, [
    [1, 2, 1, 2, 1, 2, 1, 2],
    [1, 2],
    [3, 4],
  ]);
});

test("a run that finds no room for the filling is tried without it, one that its inputs fail is not", async () => {
  const sizes: number[] = [];
  const failing = (isTransient: boolean): Session => ({
    ...doubling(),
    async run(feeds) {
      sizes.push(feeds[0]!.shape[0]!);
      if (feeds[0]!.shape[0] === 4) throw new RunFailure("no room", { isTransient });
      return new Map();
    },
  });
  await new PaddedSession(failing(true), 4).run([rows(1, 2)], ["y"]);
  await assert.rejects(new PaddedSession(failing(false), 4).run([rows(1, 2)], ["y"]), /no room/);
  assert.deepEqual(sizes, [4, 1, 4]);
});

test("only what has items one behind the other, of one size that is not large, is filled up", () => {
  const value = (shape: number[], datatype: Datatype = "FP32") => ({ name: "v", datatype, shape });
  const can = (input: TensorSignature, output: TensorSignature, items = 8): boolean =>
    canFillUp({ inputs: [input], outputs: [output] }, items);
  assert.equal(can(value([-1, 3]), value([-1])), true);
  assert.equal(can(value([-1, 3]), value([-1, -1])), true, "the answer says how large it is");
  assert.deepEqual(
    [
      can(value([-1, 3]), value([-1]), 1),
      can(value([-1, -1]), value([-1])),
      can(value([4, 3]), value([-1])),
      can(value([-1, 3]), value([])),
      can(value([-1, 3], "BYTES"), value([-1])),
      can(value([-1, 3]), value([-1], "BYTES")),
      can(value([-1, 3 * 1024 * 1024]), value([-1])),
    ],
    Array.from({ length: 7 }, () => false),
  );
});

test("a change of size costs what the cheapest of several took beyond a steady run; what runs long is not looked at", async () => {
  let [last, extra] = [0, 100];
  const take = async (items: number): Promise<number> => {
    const isChange = items !== last;
    last = items;
    extra += 10;
    return (items === 8 ? 3 : 2) + (isChange ? extra : 0);
  };
  assert.deepEqual(await costOfChange(8, take), { changeMs: 150, wholeMs: 3 });
  assert.deepEqual(await costOfChange(8, async (items) => (items === 8 ? 3 : 1.5)), { changeMs: 0, wholeMs: 3 });
  assert.equal(await costOfChange(8, async () => 1_200), undefined);
  assert.deepEqual(
    [
      { changeMs: 110, wholeMs: 3 },
      { changeMs: 110, wholeMs: 200 },
      { changeMs: 2, wholeMs: 0.5 },
    ].map(isDear),
    [true, false, false],
  );
});
