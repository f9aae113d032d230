import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Tensor, tensor, toStrings, toTypedArray } from "@switchyard/protocol";
import fc from "fast-check";
import { NotStackable, Scratch, split, stack } from "../../worker/src/runtime/stacking.ts";

function rows(name: string, items: number, from: number): Tensor {
  return tensor(
    name,
    Float32Array.from({ length: items * 2 }, (_, index) => from + index),
    [items, 2],
  );
}

describe("stacking", () => {
  test("one job alone is not copied", () => {
    const job = [rows("x", 1, 0)];
    assert.equal(stack([job], new Scratch()), job);
  });

  test("jobs lie one after the other along the first axis, inputs matched by name", () => {
    const jobs = [
      [rows("a", 1, 0), rows("b", 1, 10)],
      [rows("b", 2, 30), rows("a", 2, 20)],
    ];
    const [a, b] = stack(jobs, new Scratch());
    assert.deepEqual(a!.shape, [3, 2]);
    assert.deepEqual([...toTypedArray(a!)], [0, 1, 20, 21, 22, 23]);
    assert.deepEqual([...toTypedArray(b!)], [10, 11, 30, 31, 32, 33]);
  });

  test("scratch memory is used again by the next batch that fits", () => {
    const scratch = new Scratch();
    const first = stack([[rows("x", 2, 0)], [rows("x", 2, 0)]], scratch)[0]!;
    const second = stack([[rows("x", 1, 0)], [rows("x", 1, 0)]], scratch)[0]!;
    assert.equal(second.bytes.buffer, first.bytes.buffer);
    assert.equal(second.bytes.length, 16);
  });

  for (const [what, job, expected] of [
    ["another item shape", [tensor("x", Float32Array.of(1, 2, 3), [1, 3])], /'x' of job 1 is FP32 \[1,3\], of job 0 FP32 \[1,2\]/],
    ["another datatype", [tensor("x", Int32Array.of(1, 2), [1, 2])], /'x' of job 1 is INT32 \[1,2\], of job 0 FP32/],
    ["another input", [rows("y", 1, 0)], /job 1 has no input 'x'/],
    ["a further input", [rows("x", 1, 0), rows("y", 1, 0)], /job 1 has 2 inputs, job 0 has 1/],
    ["a scalar", [tensor("x", Float32Array.of(1), [])], /'x' of job 1 is a scalar/],
  ] as const) {
    test(`a job with ${what} is refused by name`, () => {
      assert.throws(() => stack([[rows("x", 1, 0)], job], new Scratch()), expected);
    });
  }

  test("inputs of one job that differ in their first axis are refused", () => {
    const jobs = [
      [rows("a", 1, 0), rows("b", 1, 0)],
      [rows("a", 1, 0), rows("b", 2, 0)],
    ];
    assert.throws(() => stack(jobs, new Scratch()), /inputs of job 1 differ in their first axis: 'b' has 2, 'a' 1/);
  });
});

describe("splitting", () => {
  test("an output whose first axis is not the number of items blames the model", () => {
    assert.throws(
      () => split([rows("y", 1, 0)], [1, 1]),
      (error) =>
        error instanceof NotStackable && error.faultOf === "model" && /'y' has shape \[1,2\] after a run of 2 items/.test(error.message),
    );
  });

  test("shares are views, not copies", () => {
    const output = rows("y", 3, 0);
    const shares = split([output], [1, 2]);
    assert.equal(shares[1]![0]!.bytes.buffer, output.bytes.buffer);
    assert.deepEqual(shares[1]![0]!.shape, [2, 2]);
  });

  test("whatever was stacked comes apart again, numbers and texts", () => {
    const job = fc.integer({ min: 0, max: 4 }).chain((items) =>
      fc.record({
        numbers: fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { minLength: items * 3, maxLength: items * 3 }),
        texts: fc.array(fc.string({ unit: "grapheme" }), { minLength: items, maxLength: items }),
        items: fc.constant(items),
      }),
    );
    fc.assert(
      fc.property(fc.array(job, { minLength: 1, maxLength: 6 }), (jobs) => {
        const tensors = jobs.map(({ numbers, texts, items }) => [
          tensor("n", BigInt64Array.from(numbers), [items, 3]),
          tensor("t", texts, [items], "BYTES"),
        ]);
        const counts = jobs.map(({ items }) => items);
        const shares = split(stack(tensors, new Scratch()), counts);
        for (const [index, { numbers, texts, items }] of jobs.entries()) {
          assert.deepEqual([...toTypedArray(shares[index]![0]!)], numbers);
          assert.deepEqual(shares[index]![0]!.shape, [items, 3]);
          assert.deepEqual(toStrings(shares[index]![1]!), texts);
        }
      }),
    );
  });
});
