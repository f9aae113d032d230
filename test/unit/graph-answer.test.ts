/** What the process that reads a graph may answer. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { readAnswer } from "../../coordinator/src/adapters/graph-process.ts";

const input = { name: "x", datatype: "FP32", shape: [-1, 2], axes: ["batch", null] };
const whole = { signature: { inputs: [input], outputs: [{ name: "y", datatype: "BYTES", shape: [] }] }, externalFiles: ["w.bin"] };

test("a whole answer is taken, and a refusal is told", () => {
  assert.deepEqual(readAnswer(JSON.stringify(whole)), whole);
  assert.throws(() => readAnswer('{"refusal":"no graph"}'), { code: "invalid_request", message: /no graph/ });
});

test("an answer of any other form is a refusal", () => {
  const wrong = [
    "",
    "null",
    "{}",
    JSON.stringify({ ...whole, externalFiles: [1] }),
    JSON.stringify({ ...whole, more: true }),
    JSON.stringify({ ...whole, signature: { inputs: [] } }),
    JSON.stringify({ ...whole, signature: { inputs: [{ ...input, datatype: "FP33" }], outputs: [] } }),
    JSON.stringify({ ...whole, signature: { inputs: [{ ...input, shape: [-2] }], outputs: [] } }),
  ];
  for (const text of wrong) assert.throws(() => readAnswer(text), { code: "invalid_request", message: /no answer/ }, text);
});
