/**
 * Every small graph of the ONNX project in the folder that SWITCHYARD_TEST_MODELS names: through /v2 in binary it answers what onnxruntime
 * answers alone, or the server says why it cannot be served.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { cp, glob, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { type Datatype, decodeInferResponse, encodeBytesElements, type Tensor, toStrings, toTypedArray } from "@switchyard/protocol";
import { GraphBuilder, readGraph } from "@switchyard/protocol/onnx";
import { InferenceSession, Tensor as RuntimeTensor } from "onnxruntime-node";
import { startCluster } from "../../support/cluster.ts";
import { readTensorProto } from "../../support/onnx-models.ts";
import { emptyRepository } from "../../support/timed-models.ts";

const further = process.env.SWITCHYARD_TEST_MODELS;
const casesFolder = path.join(further ?? "", "onnx-cases");
const skip = further === undefined ? "SWITCHYARD_TEST_MODELS is unset" : !existsSync(casesFolder) && `${casesFolder} does not exist`;

const runtimeTypes: Partial<Record<Datatype, string>> = { FP32: "float32", FP64: "float64", FP16: "float16", BYTES: "string" };

test("every recorded ONNX case is answered through /v2 as onnxruntime answers it, or refused in words", { skip }, async (context) => {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-cases-"));
  const cases = new Map<string, string>();
  for await (const file of glob("**/model.onnx", { cwd: casesFolder })) {
    const folder = path.join(casesFolder, path.dirname(file));
    const model = path.basename(folder);
    cases.set(model, folder);
    await mkdir(path.join(root, model, "1"), { recursive: true });
    await cp(path.join(folder, "model.onnx"), path.join(root, model, "1", "model.onnx"));
  }
  const refused: string[] = [];
  let equal = 0;
  try {
    await using cluster = await startCluster({ models: root });
    for (const [model, folder] of [...cases].sort()) {
      const file = await readFile(path.join(folder, "model.onnx"));
      const inputs = await recordedInputs(folder, file);
      const answer = await infer(cluster.url, model, inputs);
      const session = await InferenceSession.create(file, { logSeverityLevel: 4 }).catch(() => undefined);
      if (session === undefined) {
        assert.equal(answer.status, 503, `${model}: ${answer.error}`);
        refused.push(`${model}: ${answer.error}`);
        continue;
      }
      assert.equal(answer.status, 200, `${model}: ${answer.error}`);
      const expected = await session.run(Object.fromEntries(inputs.map((tensor) => [tensor.name, asRuntime(tensor)])));
      assert.deepEqual(answer.outputs.map(({ name }) => name).sort(), Object.keys(expected).sort(), model);
      for (const output of answer.outputs) assertSame(output, expected[output.name]!, `${model}, output ${output.name}`);
      await session.release();
      equal += 1;
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  context.diagnostic(`${equal} of ${cases.size} cases are answered alike, ${refused.length} cannot be loaded by onnxruntime either`);
  assert.ok(equal >= 70, `only ${equal} cases ran`);
  // Operators older than the runtime supports, or that it lacks; a locale that this machine lacks.
  for (const reason of refused) assert.match(reason, /Could not find an implementation|is not a registered|construct locale/);
});

test("a model that takes or gives sequences is refused in words that name the tensor", async (context) => {
  const models = await emptyRepository();
  context.after(() => models.remove());
  const giving = new GraphBuilder({ name: "giving" });
  giving.input("x", "FP32", [2]);
  giving.output("parts", "FP32", [2], "sequence");
  giving.node("SequenceConstruct", ["x", "x"], {}, "parts");
  await models.add("giving", giving);
  const taking = new GraphBuilder({ name: "taking" });
  taking.input("parts", "FP32", [2], "sequence");
  taking.output("count", "INT64", []);
  taking.node("SequenceLength", ["parts"], {}, "count");
  await models.add("taking", taking);
  await using cluster = await startCluster({ models: models.folder });
  for (const model of ["giving", "taking"]) {
    const { status, error } = await infer(cluster.url, model, []);
    assert.equal(status, 503);
    assert.match(error ?? "", /failed to load.*"parts" is a sequence/);
  }
});

async function recordedInputs(folder: string, graph: Uint8Array): Promise<Tensor[]> {
  const { inputs } = readGraph(graph).signature;
  return Promise.all(
    inputs.map(async ({ name, datatype }, index) => {
      const read = readTensorProto(await readFile(path.join(folder, "test_data_set_0", `input_${index}.pb`)));
      assert.ok(read, `${folder}: input ${index} is no tensor of ${datatype}`);
      return { ...read, name };
    }),
  );
}

interface Answer {
  status: number;
  error: string | undefined;
  outputs: Tensor[];
}

async function infer(url: string, model: string, inputs: readonly Tensor[]): Promise<Answer> {
  const head = {
    parameters: { binary_data_output: true },
    inputs: inputs.map(({ name, datatype, shape, bytes }) => ({ name, datatype, shape, parameters: { binary_data_size: bytes.length } })),
  };
  const json = Buffer.from(JSON.stringify(head));
  const response = await fetch(`${url}/v2/models/${model}/infer`, {
    method: "POST",
    headers: { "inference-header-content-length": String(json.length), "content-type": "application/octet-stream" },
    body: Buffer.concat([json, ...inputs.map(({ bytes }) => bytes)]),
  });
  const body = Buffer.from(await response.arrayBuffer());
  if (!response.ok) return { status: response.status, error: JSON.parse(body.toString()).error, outputs: [] };
  const headerLength = Number(response.headers.get("inference-header-content-length"));
  return { status: response.status, error: undefined, outputs: decodeInferResponse({ body, headerLength }).outputs };
}

function asRuntime(tensor: Tensor): RuntimeTensor {
  const type = runtimeTypes[tensor.datatype] ?? tensor.datatype.toLowerCase();
  const data = tensor.datatype === "BYTES" ? toStrings(tensor) : toTypedArray(tensor);
  return new RuntimeTensor(type as "float32", data as Float32Array, tensor.shape);
}

function assertSame(output: Tensor, expected: RuntimeTensor, where: string): void {
  assert.deepEqual(output.shape, [...expected.dims], where);
  assert.equal(runtimeTypes[output.datatype] ?? output.datatype.toLowerCase(), expected.type, where);
  if (output.datatype === "BYTES") {
    assert.deepEqual(
      Buffer.from(output.bytes),
      Buffer.from(encodeBytesElements((expected.data as string[]).map((text) => Buffer.from(text)))),
      where,
    );
    return;
  }
  const left = toTypedArray(output);
  const right = expected.data as Float32Array;
  assert.equal(left.length, right.length, where);
  for (let index = 0; index < right.length; index += 1) {
    const [a, b] = [Number(left[index]), Number(right[index])];
    assert.ok(Object.is(a, b) || Math.abs(a - b) <= 1e-6 + 1e-5 * Math.abs(b), `${where}: element ${index} is ${a}, expected ${b}`);
  }
}
