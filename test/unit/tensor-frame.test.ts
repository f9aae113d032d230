import assert from "node:assert/strict";
import { test } from "node:test";
import {
  alignedView,
  decodeFrame,
  elementBytes,
  encodeFrame,
  framedTensors,
  frameExtra,
  frameHeader,
  SwitchyardError,
  type Tensor,
} from "@switchyard/protocol";
import fc from "fast-check";

const anyTensor: fc.Arbitrary<Tensor> = fc
  .record({
    name: fc.string(),
    datatype: fc.constantFrom(...(Object.keys(elementBytes) as Tensor["datatype"][])),
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
  })
  .chain(({ name, datatype, shape }) => {
    const count = shape.reduce((product, axis) => product * axis, 1);
    const size = datatype === "BYTES" ? count * 4 : count * elementBytes[datatype];
    const content = datatype === "BYTES" ? fc.constant(new Uint8Array(size)) : fc.uint8Array({ minLength: size, maxLength: size });
    return content.map((bytes) => ({ name, datatype, shape, bytes }));
  });

test("a frame gives back the tensors that went into it", () => {
  fc.assert(
    fc.property(fc.array(anyTensor, { maxLength: 4 }), (tensors) => {
      assert.deepEqual(decodeFrame(encodeFrame(tensors)), tensors);
    }),
  );
});

test("frames that follow one another and differ in one thing tell each its own", () => {
  const first: Tensor = { name: "a", datatype: "INT32", shape: [2, 3], bytes: new Uint8Array(24) };
  const text: Tensor = { name: "a", datatype: "BYTES", shape: [1], bytes: new Uint8Array(4) };
  const jobs: Tensor[][] = [[first], [{ ...first, name: "b" }], [{ ...first, datatype: "FP32" }], [{ ...first, shape: [3, 2] }]];
  jobs.push([{ ...first, shape: [6] }], [{ ...first, shape: [2, 3, 1] }], [first, first], [text], [{ ...text, bytes: new Uint8Array(12) }]);
  for (const tensors of [...jobs, ...jobs.toReversed()]) {
    assert.deepEqual(decodeFrame(encodeFrame([first])), [first]);
    assert.deepEqual(decodeFrame(encodeFrame(tensors)), tensors);
    assert.deepEqual(frameExtra(encodeFrame(tensors, 1)), 1);
    assert.equal(frameExtra(encodeFrame(tensors)), undefined);
  }
  for (const tensors of jobs) assert.deepEqual(decodeFrame(encodeFrame(tensors)), tensors);
  const grown: Tensor = { ...first, shape: [2, 3] };
  encodeFrame([grown]);
  grown.shape.push(1); // a shape that is written later does not reach what was kept
  assert.deepEqual(decodeFrame(encodeFrame([first])), [first]);
});

test("decoded tensors are views on the frame that start at multiples of eight", () => {
  const frame = encodeFrame([
    { name: "a", datatype: "UINT8", shape: [3], bytes: Uint8Array.of(1, 2, 3) },
    { name: "b", datatype: "FP64", shape: [1], bytes: new Uint8Array(8) },
  ]);
  for (const tensor of decodeFrame(frame)) {
    assert.equal(tensor.bytes.buffer, frame.buffer);
    assert.equal(tensor.bytes.byteOffset % 8, 0);
    assert.equal(alignedView(tensor.bytes, 8), tensor.bytes);
  }
});

test("a frame inside a larger buffer is read, and an unaligned tensor is copied only on demand", () => {
  const values = Float64Array.of(1.5, -2.5);
  const frame = encodeFrame([{ name: "x", datatype: "FP64", shape: [2], bytes: new Uint8Array(values.buffer) }]);
  const reply = new Uint8Array(frame.length + 5);
  reply.set(frame, 5);
  const [tensor] = decodeFrame(reply.subarray(5));
  const aligned = alignedView(tensor!.bytes, 8);
  assert.notEqual(aligned, tensor!.bytes);
  assert.deepEqual(new Float64Array(aligned.buffer, aligned.byteOffset, 2), values);
});

test("jobs of one layout have equal headers, whatever their values", () => {
  const of = (value: number, shape = [2]) => encodeFrame([{ name: "x", datatype: "UINT8", shape, bytes: new Uint8Array(2).fill(value) }]);
  assert.equal(frameHeader(of(1)), frameHeader(of(2)));
  assert.notEqual(frameHeader(of(1)), frameHeader(of(1, [1, 2])));
});

test("what travels beside the tensors comes back", () => {
  assert.deepEqual(frameExtra(encodeFrame([], { outputs: ["y"] })), { outputs: ["y"] });
  assert.equal(frameExtra(encodeFrame([])), undefined);
});

test("a damaged frame is an internal error and nothing else", () => {
  const whole = encodeFrame([{ name: "x", datatype: "FP32", shape: [4], bytes: new Uint8Array(16) }]);
  for (let size = 0; size < whole.length; size++) {
    assert.throws(() => decodeFrame(whole.subarray(0, size)), { name: "SwitchyardError", code: "internal" });
  }
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), (at, byte) => {
      const frame = whole.slice();
      frame[at] = byte;
      try {
        decodeFrame(frame);
      } catch (error) {
        assert.ok(error instanceof SwitchyardError && error.code === "internal");
      }
    }),
  );
});

test("the beginning of a frame tells what is in it, as long as it holds the header", () => {
  const bytes = new Uint8Array(4_000);
  const frame = encodeFrame([{ name: "x", datatype: "FP32", shape: [10, 100], bytes }]);
  assert.deepEqual(framedTensors(frame.subarray(0, 200)), [{ name: "x", datatype: "FP32", shape: [10, 100], sizeBytes: 4_000 }]);
  assert.throws(() => framedTensors(encodeFrame([{ name: "y", datatype: "FP32", shape: [10, 100], bytes }]).subarray(0, 20)), {
    code: "internal",
  });
});
