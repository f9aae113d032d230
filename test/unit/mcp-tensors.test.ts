/** Tensors in a tool's arguments and results: every form that a schema names is read, and what is wrong is told with what to send instead. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ModelVersion, SwitchyardError, type TensorSignature, toStrings, toTypedArray } from "@switchyard/protocol";
import { PNG } from "pngjs";
import { modelOf, refuseDrift, signatureMeta, signatureMetaKey, toolNameOf } from "../../coordinator/src/doors/mcp/model-tools.ts";
import { missingInputs, requestOf, tensorsOf } from "../../coordinator/src/doors/mcp/tensor-arguments.ts";
import { answerOf } from "../../coordinator/src/doors/mcp/tensor-results.ts";
import { inputsSchema, resultSchema } from "../../coordinator/src/doors/mcp/tensor-schemas.ts";
import { fakeModels } from "../support/fake-job-service.ts";

function version(inputs: TensorSignature[], more: Partial<ModelVersion> = {}): ModelVersion {
  const outputs: TensorSignature[] = [{ name: "scores", datatype: "FP32", shape: [-1, 3] }];
  return { model: "m", version: 1, digest: "d", tag: "t", sizeBytes: 1, path: "", config: {}, signature: { inputs, outputs }, ...more };
}

const numbers: TensorSignature = { name: "x", datatype: "FP32", shape: [-1, 2] };
const read = (input: TensorSignature, value: unknown, more: Partial<ModelVersion> = {}) =>
  tensorsOf({ values: { [input.name]: value }, at: "/inputs" }, version([input], more))[0]!;

function refusal(act: () => unknown): SwitchyardError {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof SwitchyardError, String(error));
    return error;
  }
  return assert.fail("nothing was refused");
}

test("nested arrays say their own shape", () => {
  const tensor = read(numbers, [
    [1, 2],
    [3, 4.5],
  ]);
  assert.deepEqual(
    [tensor.shape, [...toTypedArray(tensor)]],
    [
      [2, 2],
      [1, 2, 3, 4.5],
    ],
  );
  assert.deepEqual(read({ name: "s", datatype: "INT64", shape: [] }, 7).shape, []);
  assert.deepEqual(read({ ...numbers }, []).shape, [0, 2]);
  const texts = read({ name: "t", datatype: "BYTES", shape: [-1] }, ["a", "ü"]);
  assert.deepEqual(toStrings(texts), ["a", "ü"]);
  const halves = read({ name: "h", datatype: "FP16", shape: [2] }, [1, -2]);
  assert.deepEqual([...toTypedArray(halves)], [0x3c00, 0xc000]);
});

test("a whole number beyond 2^53 is taken from the message as it came", () => {
  const input: TensorSignature = { name: "x", datatype: "INT64", shape: [-1] };
  const given = { values: { x: [JSON.parse("9007199254740993")] }, at: "/inputs", exact: () => ({ x: ["9007199254740993"] }) };
  const [tensor] = tensorsOf(given, version([input]));
  assert.deepEqual([...toTypedArray(tensor!)], [9_007_199_254_740_993n]);
});

test("bytes come in base64 with their shape, and a PNG image where the model says how it takes images", () => {
  const base64 = Buffer.from(new Float32Array([5, 6]).buffer).toString("base64");
  assert.deepEqual([...toTypedArray(read(numbers, { base64, shape: [1, 2] }))], [5, 6]);
  const image = new PNG({ width: 2, height: 1 });
  image.data.set([0, 0, 0, 255, 255, 255, 255, 255]);
  const data = PNG.sync.write(image).toString("base64");
  const config = { image: { size: [1, 2] as [number, number], layout: "FLAT" as const, scale: 1 } };
  for (const form of [{ data, mimeType: "image/png" }, { uri: `data:image/png;base64,${data}` }]) {
    assert.deepEqual([...toTypedArray(read(numbers, form, { config }))], [0, 255]);
  }
  const text = read({ name: "t", datatype: "BYTES", shape: [-1, 1] }, { uri: "data:text/plain;charset=utf-8,two%20words" });
  assert.deepEqual([text.shape, toStrings(text)], [[1, 1], ["two words"]]);
});

test("what is wrong is named with what to send instead", () => {
  const config = { image: { size: [1, 2] as [number, number], layout: "FLAT" as const } };
  assert.match(refusal(() => read(numbers, [1, 2])).message, /\/inputs\/x must be FP32 \[-1,2\]: 2 levels of arrays.*got "1 levels"/);
  assert.match(refusal(() => read(numbers, [[1, "a"]])).message, /'x': element 1 must be a number/);
  assert.match(refusal(() => read(numbers, [[1, 2], [3]])).message, /neither flat nor nested/);
  assert.match(refusal(() => read(numbers, {})).message, /nested arrays, or \{"base64"/);
  assert.match(refusal(() => read(numbers, {}, { config })).message, /a PNG image as/);
  assert.match(refusal(() => read(numbers, { base64: "%%%", shape: [1, 2] })).message, /x\/base64 must be base64/);
  assert.match(refusal(() => read(numbers, { base64: "AAAA", shape: [1, 2] })).message, /takes 8 bytes, got 3/);
  assert.match(refusal(() => read(numbers, { uri: "https://example.org/a.png" }, { config })).message, /other addresses are not fetched/);
  assert.match(refusal(() => read(numbers, { data: "AAAA", mimeType: "image/jpeg" }, { config })).message, /convert other images first/);
  assert.match(refusal(() => read(numbers, { data: "/9j/4AAQ", mimeType: "image/png" }, { config })).message, /it is a JPEG image/);
  assert.match(refusal(() => read(numbers, { data: "AAAA", mimeType: "image/png" })).message, /not say how it takes an image|not a PNG/);
  const unknown = refusal(() => tensorsOf({ values: { x: [[1, 2]], y: 1 }, at: "/inputs" }, version([numbers])));
  assert.deepEqual([unknown.code, unknown.facts.fields?.[0]?.pointer], ["signature_mismatch", "/inputs/y"]);
});

test("a shape that is not the model's is told where it stands in the arguments", () => {
  const error = refusal(() => requestOf({ values: { x: [[1, 2, 3]] }, at: "/items/4" }, version([numbers])));
  assert.deepEqual([error.code, error.facts.fields?.[0]?.pointer], ["signature_mismatch", "/items/4/x/shape"]);
});

test("a picture that would unpack to too much is refused by its head", () => {
  const head = Buffer.from(PNG.sync.write(new PNG({ width: 1, height: 1 })));
  head.writeUInt32BE(60_000, 16);
  head.writeUInt32BE(60_000, 20);
  const config = { image: { size: [1, 2] as [number, number], layout: "FLAT" as const } };
  const error = refusal(() => read(numbers, { data: head.toString("base64"), mimeType: "image/png" }, { config }));
  assert.match(error.message, /at most 4194304 pixels; make it smaller first; it is one of 60000 × 60000/);
});

test("inputs that are missing are known", () => {
  const both = version([numbers, { ...numbers, name: "y" }]);
  assert.deepEqual(
    missingInputs({ values: { x: [[1, 2]] }, at: "/inputs" }, both).map(({ name }) => name),
    ["y"],
  );
});

test("an answer has the outputs as they are nested, the class of each item, and numbers as short as they may be", () => {
  const bytes = new Uint8Array(Float32Array.of(0.1, 0.7, 0.2, Number.NaN, 0, Number.POSITIVE_INFINITY).buffer);
  const outputs = [
    { name: "scores", datatype: "FP32" as const, shape: [2, 3], bytes },
    { name: "id", datatype: "INT64" as const, shape: [2], bytes: new Uint8Array(BigInt64Array.of(1n, 2n ** 60n).buffer) },
  ];
  const { isWhole, structured, text } = answerOf({ model: "m", version: 2, outputs, labels: { scores: ["a", "b", "c"] } });
  assert.equal(isWhole, true);
  assert.deepEqual(JSON.parse(text), structured);
  assert.deepEqual(structured, {
    model: "m",
    version: 2,
    classes: {
      scores: [
        { class: "b", index: 1, value: 0.7 },
        { class: "c", index: 2, value: "Infinity" },
      ],
    },
    outputs: {
      scores: [
        [0.1, 0.7, 0.2],
        ["NaN", 0, "Infinity"],
      ],
      id: [1, "1152921504606846976"],
    },
  });
});

test("an output that is class indexes has the class that each one names, and none where one names no class", () => {
  const labels = { label: ["a", "b", "c", "d"] };
  const classes = (datatype: "INT64" | "INT32" | "UINT8", shape: number[], bytes: ArrayBufferLike) => {
    const outputs = [{ name: "label", datatype, shape, bytes: new Uint8Array(bytes) }];
    return (answerOf({ model: "m", version: 1, outputs, labels }).structured.classes as Record<string, unknown> | undefined)?.label;
  };
  assert.deepEqual(classes("INT64", [2], BigInt64Array.of(3n, 1n).buffer), [
    { class: "d", index: 3, value: 3 },
    { class: "b", index: 1, value: 1 },
  ]);
  assert.deepEqual(classes("INT32", [1, 1], Int32Array.of(2).buffer), [{ class: "c", index: 2, value: 2 }]);
  assert.deepEqual(classes("UINT8", [1], Uint8Array.of(3).buffer), [{ class: "d", index: 3, value: 3 }]);
  assert.equal(classes("INT64", [2], BigInt64Array.of(0n, 4n).buffer), undefined);
  assert.deepEqual(
    classes("UINT8", [1, 4], Uint8Array.of(1, 2, 200, 3).buffer),
    [{ class: "c", index: 2, value: 200 }],
    "scores of a quantized model",
  );
});

test("outputs that are too large are linked to", () => {
  const large = { name: "scores", datatype: "UINT8" as const, shape: [70_000], bytes: new Uint8Array(70_000) };
  const { isWhole, structured } = answerOf({ model: "m", version: 1, outputs: [large], labels: undefined, jobId: "j" });
  assert.deepEqual([isWhole, structured], [false, { model: "m", version: 1, job_id: "j", output_uri: "switchyard://jobs/j/output" }]);
  const wide = { name: "scores", datatype: "UINT8" as const, shape: [40_000], bytes: new Uint8Array(40_000).fill(200) };
  assert.equal(answerOf({ model: "m", version: 1, outputs: [wide], labels: undefined, jobId: "j" }).isWhole, false);
});

test("a tensor's schema has nested arrays while they are small, and image forms where they fit", () => {
  const forms = (of: ModelVersion) => (inputsSchema(of).properties as Record<string, { anyOf: Record<string, unknown>[] }>).x!.anyOf;
  assert.deepEqual(forms(version([numbers]))[0], {
    type: "array",
    items: { type: "array", items: { type: "number" }, minItems: 2, maxItems: 2 },
  });
  assert.equal(forms(version([{ ...numbers, shape: [-1, 3, 224, 224] }])).length, 1);
  assert.equal(forms(version([numbers], { config: { image: { size: [1, 2], layout: "FLAT" } } })).length, 4);
  const outputs = (resultSchema(version([numbers])).properties as { outputs: { properties: Record<string, unknown> } }).outputs;
  assert.deepEqual(Object.keys(outputs.properties), ["scores"]);
});

test("tools are named after their models, and names that cannot be a tool's are marked", () => {
  assert.equal(toolNameOf("digits"), "infer_digits");
  assert.match(toolNameOf("a.b"), /^infer_a_b_[0-9a-f]{6}$/);
  assert.notEqual(toolNameOf("a.b"), toolNameOf("a_b"));
  assert.match(toolNameOf("batch"), /^infer_batch_[0-9a-f]{6}$/);
  const long = toolNameOf("x".repeat(128));
  assert.ok(long.length <= 64 && /^[A-Za-z0-9_-]+$/.test(long));
  const signature = { inputs: [numbers], outputs: [] };
  const models = fakeModels(["digits", "a.b", "batch"].map((model) => ({ model, version: 1, signature })));
  for (const model of ["digits", "a.b", "batch"]) assert.equal(modelOf(toolNameOf(model), models), model);
  assert.equal(modelOf("infer_nothing", models), undefined);
});

test("a call that goes by an older definition is told to list again", () => {
  const now = version([numbers]);
  refuseDrift(undefined, now);
  refuseDrift(signatureMeta(now), now);
  const other = signatureMeta(version([{ ...numbers, shape: [-1, 3] }]));
  assert.match(
    refusal(() => refuseDrift({ [signatureMetaKey]: other[signatureMetaKey] }, now)).message,
    /has changed: list the tools again/,
  );
});
