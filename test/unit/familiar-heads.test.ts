/** A JSON part that was read before is not read again, and says what it says all the same. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeInferRequest, SwitchyardError } from "../../protocol/src/index.ts";

const input = { name: "x", datatype: "FP32", shape: [1, 2], parameters: { binary_data_size: 8 } };

function body(head: Record<string, unknown>, rest: Buffer): { body: Buffer; headerLength: number } {
  const json = Buffer.from(JSON.stringify(head));
  return { body: Buffer.concat([json, rest]), headerLength: json.length };
}

const floats = (...values: number[]): Buffer => Buffer.from(new Float32Array(values).buffer);

test("requests of one head have their own tensors, and share the rest, which nobody can change", () => {
  const head = { inputs: [input], outputs: [{ name: "y" }], parameters: { timeout: 7, binary_data_output: true } };
  const [first, second] = [floats(1, 2), floats(3, 4)].map((rest) => decodeInferRequest(body(head, rest)));
  assert.deepEqual(second, { ...first, inputs: [{ ...first!.inputs[0], bytes: new Uint8Array(floats(3, 4)) }] });
  assert.deepEqual([...first!.inputs[0]!.bytes], [...floats(1, 2)]);
  assert.equal(second!.parameters, first!.parameters, "it was read once");
  assert.throws(() => (second!.parameters.timeout = 1), TypeError);
  assert.throws(() => (second!.outputs![0]!.name = "z"), TypeError);
  assert.throws(() => (second!.inputs[0]!.shape[0] = 2), TypeError);
});

test("a known head with too few or too many bytes behind it is refused as it was", () => {
  decodeInferRequest(body({ inputs: [input] }, floats(1, 2)));
  for (const rest of [floats(1), floats(1, 2, 3)]) {
    assert.throws(
      () => decodeInferRequest(body({ inputs: [input] }, rest)),
      (error) => error instanceof SwitchyardError && error.code === "invalid_request",
    );
  }
});

test("an id is each request's own", () => {
  const ids = ["a", "b"].map((id) => decodeInferRequest(body({ id, inputs: [input] }, floats(1, 2))).id);
  assert.deepEqual([...ids, decodeInferRequest(body({ inputs: [input] }, floats(1, 2))).id], ["a", "b", undefined]);
});

test("elements of no fixed width are looked at each time", () => {
  const head = { inputs: [{ name: "x", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 5 } }] };
  const element = (length: number): Buffer => Buffer.from([length, 0, 0, 0, 0x61]);
  decodeInferRequest(body(head, element(1)));
  assert.throws(() => decodeInferRequest(body(head, element(9))), /runs past the end/);
});

test("heads in their thousands push one another out, and none that comes again and again", () => {
  const often = { inputs: [input], parameters: { often: true } };
  const { parameters: first } = decodeInferRequest(body(often, floats(0, 0)));
  for (let at = 0; at < 1_000; at++) {
    const { parameters } = decodeInferRequest(body({ inputs: [input], parameters: { at } }, floats(at, at)));
    assert.equal(parameters.at, at);
    if (at % 100 === 0) assert.equal(decodeInferRequest(body(often, floats(1, 1))).parameters, first, `after ${at}`);
  }
});
