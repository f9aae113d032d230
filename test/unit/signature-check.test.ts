import assert from "node:assert/strict";
import { test } from "node:test";
import { checkInputs, checkOutputs, type ModelSignature, SwitchyardError, type TensorSignature, tensor } from "@switchyard/protocol";

function model(...inputs: TensorSignature[]): ModelSignature {
  return { inputs, outputs: ["y", "z"].map((name) => ({ name, datatype: "FP32" as const, shape: [-1] })) };
}

const image: TensorSignature = { name: "image", datatype: "FP32", shape: [-1, 4] };

function floats(name: string, shape: number[]) {
  return tensor(name, new Float32Array(shape.reduce((product, axis) => product * axis, 1)), shape);
}

function mismatch(run: () => unknown, message: RegExp, field: { pointer: string; expected: string; got: string }): void {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof SwitchyardError, String(error));
    assert.equal(error.code, "signature_mismatch");
    assert.match(error.message, message);
    assert.deepEqual(error.facts.fields, [field]);
    return true;
  });
}

test("jobs that differ only in axis 0 are of one class and can be stacked", () => {
  const one = checkInputs([floats("image", [1, 4])], model(image));
  const three = checkInputs([floats("image", [3, 4])], model(image));
  assert.deepEqual([one.items, three.items, three.stackable], [1, 3, true]);
  assert.equal(one.shapeClass, three.shapeClass);
});

test("other dynamic axes make another class", () => {
  const wide: TensorSignature = { name: "image", datatype: "FP32", shape: [-1, -1] };
  const classOf = (shape: number[]) => checkInputs([floats("image", shape)], model(wide)).shapeClass;
  assert.equal(classOf([1, 4]), classOf([2, 4]));
  assert.notEqual(classOf([1, 4]), classOf([1, 5]));
});

test("inputs without a common dynamic axis 0 are never stacked", () => {
  const scale: TensorSignature = { name: "scale", datatype: "FP32", shape: [] };
  const rows: TensorSignature = { name: "rows", datatype: "FP32", shape: [-1] };
  const fixed: TensorSignature = { name: "fixed", datatype: "FP32", shape: [2, 4] };
  const cases = [
    checkInputs([floats("image", [2, 4]), floats("scale", [])], model(image, scale)),
    checkInputs([floats("image", [2, 4]), floats("rows", [3])], model(image, rows)),
    checkInputs([floats("fixed", [2, 4])], model(fixed)),
    checkInputs([floats("image", [0, 4])], model(image)),
    checkInputs([], model()),
  ];
  for (const checked of cases) {
    assert.equal(checked.stackable, false);
    assert.equal(checked.items, 1);
    assert.equal(checked.shapeClass[0], "=");
  }
});

test("the order in which inputs are sent does not matter", () => {
  const mask: TensorSignature = { name: "mask", datatype: "FP32", shape: [-1, 1] };
  const signature = model(image, mask);
  const [a, b] = [floats("image", [2, 4]), floats("mask", [2, 1])];
  const sent = checkInputs([b, a], signature);
  assert.deepEqual(sent.inputs, [a, b]);
  assert.deepEqual(sent, checkInputs([a, b], signature));
});

test("an input that does not fit is refused with what was expected and what came", () => {
  const check =
    (...inputs: Parameters<typeof checkInputs>[0]) =>
    () =>
      checkInputs(inputs, model(image));
  mismatch(check(floats("image", [3, 5])), /must have the shape FP32 \[-1,4\], got FP32 \[3,5\]/, {
    pointer: "/inputs/0/shape",
    expected: "FP32 [-1,4]",
    got: "FP32 [3,5]",
  });
  mismatch(check(floats("image", [4])), /shape/, { pointer: "/inputs/0/shape", expected: "FP32 [-1,4]", got: "FP32 [4]" });
  mismatch(check(floats("image", [3, 0])), /shape/, { pointer: "/inputs/0/shape", expected: "FP32 [-1,4]", got: "FP32 [3,0]" });
  mismatch(check(tensor("image", Int32Array.of(1, 2, 3, 4), [1, 4])), /must be FP32/, {
    pointer: "/inputs/0/datatype",
    expected: "FP32 [-1,4]",
    got: "INT32 [1,4]",
  });
  mismatch(check(), /'image' is missing/, { pointer: "/inputs", expected: "image: FP32 [-1,4]", got: "nothing" });
  mismatch(check(floats("image", [1, 4]), floats("extra", [1])), /unexpected additional input data for model/, {
    pointer: "/inputs/1/name",
    expected: "image",
    got: '"extra"',
  });
  mismatch(check({ ...floats("image", [2, 4]), bytes: new Uint8Array(16) }), /takes 8 elements of 4 bytes, got 16 bytes/, {
    pointer: "/inputs/0",
    expected: "8 elements of 4 bytes",
    got: "16 bytes",
  });
});

test("axes of one name must have one size", () => {
  const signature = model(
    { name: "a", datatype: "FP32", shape: [-1, -1], axes: ["batch", "time"] },
    { name: "b", datatype: "FP32", shape: [-1], axes: ["time"] },
  );
  assert.equal(checkInputs([floats("a", [2, 3]), floats("b", [3])], signature).stackable, false);
  mismatch(() => checkInputs([floats("b", [4]), floats("a", [2, 3])], signature), /Axis 'time' is 3 in input 'a' but 4 in input 'b'/, {
    pointer: "/inputs/0/shape/0",
    expected: "time = 3",
    got: "4",
  });
});

test("outputs are those asked for, in that order, or all", () => {
  assert.deepEqual(checkOutputs(undefined, model(image)), ["y", "z"]);
  assert.deepEqual(checkOutputs([{ name: "z" }, { name: "y" }], model(image)), ["z", "y"]);
  mismatch(() => checkOutputs([{ name: "w" }], model(image)), /no output 'w'/, {
    pointer: "/outputs/0/name",
    expected: "y, z",
    got: '"w"',
  });
  mismatch(() => checkOutputs([{ name: "y" }, { name: "y" }], model(image)), /already exists/, {
    pointer: "/outputs/1/name",
    expected: "each output once",
    got: '"y"',
  });
});

test("outputs of texts are not classified, and that is said before anything runs", () => {
  const texts: ModelSignature = {
    inputs: [image],
    outputs: [
      { name: "words", datatype: "BYTES", shape: [-1] },
      { name: "y", datatype: "FP16", shape: [-1, 4] },
    ],
  };
  assert.deepEqual(checkOutputs([{ name: "words" }, { name: "y", classification: 2 }], texts), ["words", "y"]);
  assert.throws(
    () => checkOutputs([{ name: "y" }, { name: "words", classification: 1 }], texts),
    (error: SwitchyardError) => {
      assert.equal(error.code, "invalid_request");
      assert.match(error.message, /Output 'words' is BYTES and cannot be classified/);
      const field = { pointer: "/outputs/1/parameters/classification", expected: "an output of numbers", got: "BYTES" };
      assert.deepEqual(error.facts.fields, [field]);
      return true;
    },
  );
});
