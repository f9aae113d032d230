import assert from "node:assert/strict";
import { test } from "node:test";
import { toStrings, toTypedArray } from "@switchyard/protocol";
import { tensorOf, tensorsOf } from "../../client-sdk/src/inputs.ts";

test("typed arrays imply their datatype and are not copied", () => {
  const data = Int32Array.of(1, 2, 3, 4);
  const made = tensorOf("x", { data, shape: [2, 2] });
  assert.deepEqual([made.datatype, made.shape], ["INT32", [2, 2]]);
  assert.equal(made.bytes.buffer, data.buffer);
  assert.deepEqual(tensorOf("x", Float64Array.of(1)).datatype, "FP64");
});

test("nested arrays show their shape", () => {
  const made = tensorOf("x", {
    data: [
      [
        [1, 2],
        [3, 4],
      ],
    ],
    datatype: "FP32",
  });
  assert.deepEqual(made.shape, [1, 2, 2]);
  assert.deepEqual(toTypedArray(made), Float32Array.of(1, 2, 3, 4));
  assert.deepEqual(tensorOf("x", { data: [[], []], datatype: "FP32" }).shape, [2, 0]);
  assert.deepEqual(tensorOf("x", { data: 5, datatype: "INT64" }).shape, []);
});

test("strings are BYTES, booleans BOOL, bigints INT64", () => {
  const one = tensorOf("x", "größe");
  assert.deepEqual([one.datatype, one.shape, toStrings(one)], ["BYTES", [1], ["größe"]]);
  assert.deepEqual(tensorOf("x", [["a", "b"]]).shape, [1, 2]);
  assert.equal(tensorOf("x", { data: [true, false] }).datatype, "BOOL");
  assert.deepEqual(toTypedArray(tensorOf("x", { data: [2n ** 62n] })), BigInt64Array.of(2n ** 62n));
});

test("numbers become half precision when asked", () => {
  assert.deepEqual(toTypedArray(tensorOf("x", { data: [1, -2, 65504], datatype: "FP16" })), Uint16Array.of(0x3c00, 0xc000, 0x7bff));
  assert.equal(tensorOf("x", { data: Uint16Array.of(0x3c00), datatype: "FP16" }).datatype, "FP16");
});

test("data that does not fit is refused by name", () => {
  const refused = (value: Parameters<typeof tensorOf>[1], pattern: RegExp): void => {
    assert.throws(
      () => tensorOf("x", value),
      (error: Error & { code: string }) => error.code === "invalid_request" && pattern.test(error.message),
    );
  };
  refused({ data: [1, 2] }, /'x'.*needs a datatype/);
  refused({ data: [[1], [2, 3]], datatype: "FP32" }, /'x'.*depth 1/);
  refused({ data: [1, [2]] as never, datatype: "FP32" }, /'x'.*mixed/);
  refused({ data: [300], datatype: "UINT8" }, /'x'.*300/);
  refused({ data: [1.5], datatype: "INT32" }, /'x'.*1\.5/);
  refused({ data: Float32Array.of(1), shape: [2] }, /'x'/);
  refused({ data: [1], datatype: "FP99" as never }, /'x'.*FP99/);
  refused({} as never, /'x'.*data is missing/);
});

test("a model with several inputs takes them by name, in order", () => {
  const tensors = tensorsOf({ b: Float32Array.of(1), a: "text" });
  assert.deepEqual(
    tensors.map(({ name }) => name),
    ["b", "a"],
  );
  assert.deepEqual(tensorsOf(tensors), tensors);
});
