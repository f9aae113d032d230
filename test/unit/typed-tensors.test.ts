import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeBytesElements,
  encodeBytesElements,
  floatFromHalf,
  halfFromFloat,
  scanBytesElements,
  type Tensor,
  tensor,
  toStrings,
  toTypedArray,
} from "@switchyard/protocol";
import fc from "fast-check";

test("JavaScript's arrays become tensors of the datatype that fits, without copying typed arrays", () => {
  const cases: [tensor: Tensor, datatype: string][] = [
    [tensor("x", Float32Array.of(1)), "FP32"],
    [tensor("x", Float64Array.of(1)), "FP64"],
    [tensor("x", Int8Array.of(1)), "INT8"],
    [tensor("x", Int16Array.of(1)), "INT16"],
    [tensor("x", Int32Array.of(1)), "INT32"],
    [tensor("x", BigInt64Array.of(1n)), "INT64"],
    [tensor("x", Uint8Array.of(1)), "UINT8"],
    [tensor("x", Uint8ClampedArray.of(1)), "UINT8"],
    [tensor("x", Uint16Array.of(1)), "UINT16"],
    [tensor("x", Uint32Array.of(1)), "UINT32"],
    [tensor("x", BigUint64Array.of(1n)), "UINT64"],
    [tensor("x", [1.5]), "FP32"],
    [tensor("x", [1n]), "INT64"],
    [tensor("x", [true]), "BOOL"],
    [tensor("x", ["a"]), "BYTES"],
    [tensor("x", Uint16Array.of(1), [1], "FP16"), "FP16"],
  ];
  for (const [made, datatype] of cases) assert.equal(made.datatype, datatype);
  const values = Float32Array.of(1, 2);
  assert.equal(tensor("x", values).bytes.buffer, values.buffer);
});

test("values come back as they went in", () => {
  assert.deepEqual(toTypedArray(tensor("x", [1, -2], [2], "INT16")), Int16Array.of(1, -2));
  assert.deepEqual(toTypedArray(tensor("x", [1, 2n ** 63n], [2], "UINT64")), BigUint64Array.of(1n, 2n ** 63n));
  assert.deepEqual(toTypedArray(tensor("x", [true, false])), Uint8Array.of(1, 0));
  assert.deepEqual(toStrings(tensor("x", ["a", "ü"], [2, 1])), ["a", "ü"]);
  const unaligned = {
    ...tensor("x", Float64Array.of(7)),
    bytes: Uint8Array.of(0, ...new Uint8Array(Float64Array.of(7).buffer)).subarray(1),
  };
  assert.deepEqual(toTypedArray(unaligned), Float64Array.of(7));
});

test("what does not fit is refused", () => {
  const cases: (() => unknown)[] = [
    () => tensor("x", [1, 2], [3]),
    () => tensor("x", [1], [-1]),
    () => tensor("x", [300], [1], "UINT8"),
    () => tensor("x", [1.5], [1], "INT32"),
    () => tensor("x", [1.5], [1], "INT64"),
    () => tensor("x", [2n ** 64n], [1], "UINT64"),
    () => tensor("x", [2], [1], "BOOL"),
    () => tensor("x", ["\ud800"]),
    () => tensor("x", ["1"], [1], "FP32"),
    () => tensor("x", Float32Array.of(1), [1], "INT32"),
    () => tensor("x", Uint8Array.of(1), [1], "BYTES"),
    () => toTypedArray(tensor("x", ["a"])),
    () => toStrings(tensor("x", [1])),
  ];
  for (const run of cases) assert.throws(run, { name: "SwitchyardError", code: "invalid_request" });
});

test("half-precision words and numbers convert both ways", () => {
  for (let word = 0; word < 0x10000; word++) {
    const value = floatFromHalf(word);
    assert.equal(halfFromFloat(value), Number.isNaN(value) ? 0x7e00 : word);
  }
  assert.equal(halfFromFloat(2049), halfFromFloat(2048));
  assert.equal(halfFromFloat(2051), halfFromFloat(2052));
  assert.equal(floatFromHalf(halfFromFloat(65_519)), 65_504);
  assert.equal(floatFromHalf(halfFromFloat(1e9)), Number.POSITIVE_INFINITY);
  assert.equal(halfFromFloat(2 ** -26), 0);
});

test("elements of BYTES are packed and found again", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array()), (elements) => {
      assert.deepEqual(decodeBytesElements(encodeBytesElements(elements)), elements);
    }),
  );
  assert.throws(() => decodeBytesElements(Uint8Array.of(5, 0, 0, 0, 1)), { code: "invalid_request" });
  assert.deepEqual(scanBytesElements(Uint8Array.of(0, 0, 0, 0, 9, 9)), { count: 1, fault: { index: 1, kind: "truncated" } });
});
