import assert from "node:assert/strict";
import { test } from "node:test";
import { classesOf, planeOf, rankedOf } from "../../console/src/tensor-shape.ts";

const digits = { config: { image: { size: [8, 8] } } };
const count = (length: number): number[] => Array.from({ length }, (_, at) => at);

test("a flat tensor is a picture where the model says of which size", () => {
  const plane = planeOf({ shape: [1, 64], data: count(64) }, digits);
  assert.deepEqual([plane?.width, plane?.height], [8, 8]);
  assert.deepEqual([plane?.rgba[0], plane?.rgba[3], plane?.rgba[4 * 63]], [0, 255, 255]);
  assert.equal(planeOf({ shape: [1, 64], data: count(64) }, undefined), undefined);
});

test("layouts with channels first and last show the same colours", () => {
  const first = planeOf({ shape: [1, 3, 4, 4], data: [...count(16), ...count(16).map((at) => at + 100), ...Array(16).fill(0)] }, undefined);
  const last = planeOf({ shape: [1, 4, 4, 3], data: count(16).flatMap((at) => [at, at + 100, 0]) }, undefined);
  assert.deepEqual(first?.rgba, last?.rgba);
});

test("what is no picture is none: too few values, other shapes, no numbers", () => {
  for (const tensor of [
    { shape: [1, 8, 8], data: count(10) },
    { shape: [1, 10], data: count(10) },
    { shape: [1, 2, 2], data: count(4) },
    { shape: [1, 8, 8], data: Array(64).fill("a") },
    { shape: [1, 8, 8] },
  ]) {
    assert.equal(planeOf(tensor, undefined), undefined);
  }
});

test("named values are ranked, the largest first", () => {
  assert.deepEqual(rankedOf([0.1, 0.7, 0.2], ["a", "b"]), [
    { label: "b", value: 0.7 },
    { label: "2", value: 0.2 },
    { label: "a", value: 0.1 },
  ]);
});

const names = ["a", "b", "c", "d"];
const labelsOf = (tensor: { datatype: string; shape: number[]; data?: unknown[] }) => {
  const classes = classesOf(tensor, names);
  return classes && [classes.kind, ...classes.items.map(([best]) => best?.label)];
};

test("a whole number is the index of a class, and a row of scores is ranked by itself", () => {
  assert.deepEqual(labelsOf({ datatype: "INT64", shape: [1], data: [3] }), ["indexes", "d"]);
  assert.deepEqual(labelsOf({ datatype: "INT64", shape: [4], data: [3, 0, 0, 1] }), ["indexes", "d", "a", "a", "b"]);
  assert.deepEqual(labelsOf({ datatype: "INT32", shape: [2, 1], data: [[1], [2]] }), ["indexes", "b", "c"]);
  assert.deepEqual(labelsOf({ datatype: "FP32", shape: [4], data: [1, 2, 9, 3] }), ["scores", "c"]);
  assert.deepEqual(labelsOf({ datatype: "FP32", shape: [2, 4], data: [0.7, 0.1, 0.1, 0.1, 0, 0.1, 0.9, 0] }), ["scores", "a", "c"]);
  assert.deepEqual(labelsOf({ datatype: "FP16", shape: [1, 4, 1, 1], data: [1, 2, 3, 9] }), ["scores", "d"]);
  assert.deepEqual(labelsOf({ datatype: "UINT8", shape: [1, 4], data: [1, 200, 3, 9] }), ["scores", "b"], "of a quantized model");
  assert.deepEqual(labelsOf({ datatype: "BOOL", shape: [2], data: [true, false] }), ["indexes", "b", "a"]);
});

test("what is neither is shown as it is", () => {
  for (const tensor of [
    { datatype: "INT64", shape: [1], data: [4] },
    { datatype: "INT64", shape: [1], data: [-1] },
    { datatype: "FP32", shape: [1, 3], data: [1, 2, 3] },
    { datatype: "FP32", shape: [1], data: [3] },
    { datatype: "BYTES", shape: [1], data: ["1"] },
    { datatype: "FP32", shape: [0, 4], data: [] },
    { datatype: "FP32", shape: [1, 4] },
  ]) {
    assert.equal(labelsOf(tensor), undefined, JSON.stringify(tensor));
  }
  assert.equal(classesOf({ datatype: "INT64", shape: [1], data: [0] }, []), undefined);
});
