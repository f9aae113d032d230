import assert from "node:assert/strict";
import { test } from "node:test";
import { SwitchyardError } from "@switchyard/protocol";
import { GraphBuilder, readGraph } from "@switchyard/protocol/onnx";
import { InferenceSession, Tensor } from "onnxruntime-node";

function scaler(): GraphBuilder {
  const graph = new GraphBuilder({ name: "scaler" });
  graph.input("x", "FP32", ["batch", 2]);
  graph.output("y", "FP32", ["batch", 2]);
  graph.node("Mul", ["x", graph.weight("factor", [2], new Float32Array([2, 3]))], {}, "y");
  return graph;
}

function refusal(bytes: Uint8Array): SwitchyardError {
  try {
    readGraph(bytes);
  } catch (error) {
    assert.ok(error instanceof SwitchyardError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "the graph was accepted" });
}

test("a written graph is read back with its names, types, axes and operator set", () => {
  const graph = readGraph(scaler().toBytes());
  assert.deepEqual(graph, {
    signature: {
      inputs: [{ name: "x", datatype: "FP32", shape: [-1, 2], axes: ["batch", null] }],
      outputs: [{ name: "y", datatype: "FP32", shape: [-1, 2], axes: ["batch", null] }],
    },
    name: "scaler",
    irVersion: 8,
    opset: 17,
    opsets: { "": 17 },
    externalFiles: [],
  });
});

test("a written graph runs in onnxruntime with its attributes and weights", async () => {
  const graph = new GraphBuilder({ name: "attributes" });
  graph.input("x", "FP32", [-1, 2]);
  graph.output("y", "FP32", [-1, 2]);
  graph.output("best", "INT64", [-1]);
  const weights = graph.weight("w", [2, 2], new Float32Array([1, 2, 3, 4]));
  const product = graph.node("Gemm", ["x", weights], { transB: { int: 1 }, alpha: { float: 0.5 } });
  const constant = graph.node("Constant", [], { value_floats: { floats: [10, 20] } });
  graph.node("Add", [product, constant], {}, "y");
  graph.node("ArgMax", ["y"], { axis: { int: -1 }, keepdims: { int: 0 } }, "best");
  const session = await InferenceSession.create(graph.toBytes());
  const answer = await session.run({ x: new Tensor("float32", [1, 2, 3, 4], [2, 2]) });
  assert.deepEqual([...(answer.y!.data as Float32Array)], [12.5, 25.5, 15.5, 32.5]);
  assert.deepEqual([...(answer.best!.data as BigInt64Array)], [1n, 1n]);
});

test("an input that a weight of the graph fills is not asked of callers", () => {
  const graph = scaler();
  graph.input("factor", "FP32", [2]);
  assert.deepEqual(
    readGraph(graph.toBytes()).signature.inputs.map((input) => input.name),
    ["x"],
  );
});

test("files of external weights are listed once each, in name order, also from subgraphs", () => {
  const graph = scaler();
  const part = (name: string, location: string) =>
    graph.externalWeight(name, { location, datatype: "FP32", dims: [2], offset: 8, length: 8 });
  part("b", "weights.bin");
  part("a", "a.bin");
  part("c", "weights.bin");
  const inner = { name: "inner", datatype: "FP32" as const, dims: [1], bytes: new Uint8Array(4), external: { location: "inner.bin" } };
  graph.node("If", ["x"], { then_branch: { graph: { name: "then", nodes: [], weights: [inner], inputs: [], outputs: [] } } });
  assert.deepEqual(readGraph(graph.toBytes()).externalFiles, ["a.bin", "inner.bin", "weights.bin"]);
});

test("a model cut off at any byte is refused as not whole", () => {
  const bytes = scaler().toBytes();
  for (let length = 0; length < bytes.length; length += 1) {
    const error = refusal(bytes.subarray(0, length));
    assert.equal(error.code, "model_not_ready");
    assert.match(error.message, new RegExp(`^not a whole ONNX model \\(${length} bytes\\): `));
  }
});

test("bytes of another kind are refused as no ONNX model", () => {
  for (const bytes of [Buffer.from("hello, this is a text file"), new Uint8Array(4096), new Uint8Array(4096).fill(255)]) {
    assert.match(refusal(bytes).message, /not a whole ONNX model/);
  }
});

test("graphs nested without end are refused, not followed", () => {
  let graph = { name: "g", nodes: [], weights: [], inputs: [], outputs: [] } as import("@switchyard/protocol/onnx").OnnxGraphParts;
  for (let depth = 0; depth < 100; depth += 1) {
    graph = { ...graph, nodes: [{ op: "If", name: "n", inputs: [], outputs: [], attributes: { then_branch: { graph } } }] };
  }
  const top = scaler();
  top.node("If", ["x"], { then_branch: { graph } });
  assert.match(refusal(top.toBytes()).message, /graphs nest deeper than 32/);
});

test("each input or output that cannot be carried is named with its type", () => {
  const graph = scaler();
  graph.input("half", 16, [1]);
  graph.input("packed", 22, [1]);
  graph.input("words", "BYTES", [1], "sequence");
  graph.output("lookup", "FP32", [1], "map");
  graph.output("eighth", 17, [1]);
  graph.output("maybe", "FP32", [1], "optional");
  graph.output("holes", "FP32", [1], "sparse");
  const error = refusal(graph.toBytes());
  assert.equal(error.code, "model_not_ready");
  assert.deepEqual(error.message.split("; only tensors can be carried").join("").split("; "), [
    'input "half" has type bfloat16, which cannot be carried',
    'input "packed" has type int4, which cannot be carried',
    'input "words" is a sequence',
    'output "lookup" is a map',
    'output "eighth" has type float8e4m3fn, which cannot be carried',
    'output "maybe" is an optional value',
    'output "holes" is a sparse tensor',
  ]);
});

test("an input without a shape is refused, an output may leave it open", () => {
  const open = scaler();
  open.output("z", "FP32");
  assert.deepEqual(readGraph(open.toBytes()).signature.outputs[1], { name: "z", datatype: "FP32", shape: [] });
  open.input("w", "FP32");
  assert.match(refusal(open.toBytes()).message, /input "w" has no shape/);
});
