/** The graph reader against onnxruntime itself, over every real graph in the folder that SWITCHYARD_TEST_MODELS names. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { TensorSignature } from "@switchyard/protocol";
import { readGraph } from "@switchyard/protocol/onnx";
import { InferenceSession } from "onnxruntime-node";

const folder = process.env.SWITCHYARD_TEST_MODELS;
const skip = folder === undefined ? "SWITCHYARD_TEST_MODELS is unset" : !existsSync(folder) && `${folder} does not exist`;

const runtimeTypes: Record<string, string> = {
  FP32: "float32",
  FP64: "float64",
  FP16: "float16",
  BYTES: "string",
  BOOL: "bool",
};

/** The runtime writes a symbolic axis as its name and an unnamed dynamic one as "". */
function asRuntimeWrites(tensor: TensorSignature): InferenceSession.ValueMetadata {
  return {
    name: tensor.name,
    isTensor: true,
    type: (runtimeTypes[tensor.datatype] ?? tensor.datatype.toLowerCase()) as "float32",
    shape: tensor.shape.map((size, axis) => (size === -1 ? (tensor.axes?.[axis] ?? "") : size)),
  };
}

test("every real graph is read as onnxruntime reads it", { skip }, async () => {
  let compared = 0;
  for await (const file of glob("**/*.onnx", { cwd: folder! })) {
    const bytes = await readFile(join(folder!, file));
    const session = await InferenceSession.create(bytes, { graphOptimizationLevel: "disabled", logSeverityLevel: 4 }).catch(() => null);
    // What the runtime cannot load (operators it lacks) has nothing to compare with, but must be readable.
    const { signature } = readGraph(bytes);
    if (session === null) continue;
    assert.deepEqual(signature.inputs.map(asRuntimeWrites), session.inputMetadata, file);
    assert.deepEqual(signature.outputs.map(asRuntimeWrites), session.outputMetadata, file);
    compared += 1;
  }
  assert.ok(compared > 0, `no graph under ${folder} could be loaded`);
});
