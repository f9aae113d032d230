/** What is made of tensors' heads is made anew whenever they differ in anything that it is made of. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFrame, encodeInferResponse, frameHeader, type Tensor } from "../../protocol/src/index.ts";
import { LatestMade } from "../../protocol/src/latest-made.ts";

const tensor = (wishes: Partial<Tensor> = {}): Tensor => ({
  name: "y",
  datatype: "FP32",
  shape: [1, 2],
  bytes: new Uint8Array(8),
  ...wishes,
});

const others: Tensor[][] = [
  [tensor({ name: "z" })],
  [tensor({ datatype: "INT32" })],
  [tensor({ shape: [2, 1] })],
  [tensor({ shape: [2] })],
  [tensor({ bytes: new Uint8Array(16), shape: [1, 4] })],
  [tensor(), tensor({ name: "z" })],
  [],
];

test("equal heads give the same, and any difference another", () => {
  const latest = new LatestMade<object>();
  const first = latest.of([tensor()], "a", () => ({}));
  assert.equal(
    latest.of([tensor()], "a", () => ({})),
    first,
  );
  for (const tensors of others) {
    const made = latest.of(tensors, "a", () => ({}));
    assert.notEqual(made, first);
    assert.notEqual(
      latest.of([tensor()], "a", () => ({})),
      made,
    );
  }
  const again = latest.of([tensor()], "a", () => ({}));
  assert.notEqual(
    latest.of([tensor()], "b", () => ({})),
    again,
  );
});

test("a shape that is written after it was seen is another", () => {
  const latest = new LatestMade<object>();
  const shape = [1, 2];
  const first = latest.of([tensor({ shape })], "", () => ({}));
  shape[0] = 2;
  assert.notEqual(
    latest.of([tensor({ shape })], "", () => ({})),
    first,
  );
});

test("frames and answers say what they hold, whatever was made before them", () => {
  for (const tensors of [[tensor()], ...others, [tensor()]]) {
    for (const extra of [undefined, { o: ["y"] }]) {
      const header = JSON.parse(frameHeader(encodeFrame(tensors, extra)));
      assert.deepEqual(
        header.t,
        tensors.map(({ bytes, datatype, name, shape }) => [name, datatype, shape, bytes.length]),
      );
      assert.deepEqual(header.x, extra);
    }
    for (const [modelName, id] of [["m"], ["n"], ["n", "7"]] as const) {
      const response = { modelName: modelName!, modelVersion: "3", outputs: tensors, ...(id !== undefined && { id }) };
      const { headerLength, parts } = encodeInferResponse({ response, wishes: { binaryDefault: true } });
      const json = JSON.parse(Buffer.from(parts[0]!).toString());
      assert.deepEqual([json.model_name, json.model_version, json.id], [modelName, "3", id]);
      assert.deepEqual(
        json.outputs.map((output: Tensor & { parameters: { binary_data_size: number } }) => [
          output.name,
          output.datatype,
          output.shape,
          output.parameters.binary_data_size,
        ]),
        tensors.map(({ bytes, datatype, name, shape }) => [name, datatype, shape, bytes.length]),
      );
      if (tensors.length > 0) assert.equal(headerLength, parts[0]!.length);
    }
  }
});
