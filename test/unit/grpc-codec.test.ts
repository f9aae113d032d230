/** ModelInferRequest and ModelInferResponse by hand, held against a codec that is made from our .proto file. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Datatype, encodeBytesElements, SwitchyardError, type Tensor, tensor } from "@switchyard/protocol";
import { decodeModelInferRequest, encodeModelInferResponse, encodeStreamedAnswer } from "@switchyard/protocol/grpc";
import fc from "fast-check";
import { inferenceService, methodOf } from "../support/grpc-client.ts";

const infer = methodOf(inferenceService, "ModelInfer");
const stream = methodOf(inferenceService, "ModelStreamInfer");

interface Kind {
  field: string;
  /** Values with the extremes, as the .proto's codec takes them. */
  values: readonly unknown[];
  pack(values: readonly unknown[]): Uint8Array;
}

const words =
  (Words: new (values: readonly never[]) => ArrayBufferView) =>
  (values: readonly unknown[]): Uint8Array =>
    new Uint8Array(new Words(values as readonly never[]).buffer);
const longs = (Words: typeof BigInt64Array | typeof BigUint64Array) => (values: readonly unknown[]) =>
  new Uint8Array(new Words(values.map((value) => BigInt(value as string))).buffer);

const kinds: Record<Exclude<Datatype, "FP16">, Kind> = {
  BOOL: { field: "bool_contents", values: [true, false, true, true, false, false], pack: words(Uint8Array as never) },
  INT8: { field: "int_contents", values: [-128, -1, 0, 1, 64, 127], pack: words(Int8Array as never) },
  INT16: { field: "int_contents", values: [-32_768, -129, 0, 1, 300, 32_767], pack: words(Int16Array as never) },
  INT32: { field: "int_contents", values: [-2_147_483_648, -1, 0, 1, 70_000, 2_147_483_647], pack: words(Int32Array as never) },
  INT64: {
    field: "int64_contents",
    values: ["-9223372036854775808", "-1", "0", "9007199254740993", "34359738368", "9223372036854775807"],
    pack: longs(BigInt64Array),
  },
  UINT8: { field: "uint_contents", values: [0, 1, 127, 128, 200, 255], pack: words(Uint8Array as never) },
  UINT16: { field: "uint_contents", values: [0, 1, 255, 256, 16_384, 65_535], pack: words(Uint16Array as never) },
  UINT32: { field: "uint_contents", values: [0, 1, 65_536, 268_435_456, 2_147_483_648, 4_294_967_295], pack: words(Uint32Array as never) },
  UINT64: {
    field: "uint64_contents",
    values: ["0", "1", "4294967296", "9007199254740993", "9223372036854775808", "18446744073709551615"],
    pack: longs(BigUint64Array),
  },
  FP32: { field: "fp32_contents", values: [0, -0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, -3e38], pack: words(Float32Array as never) },
  FP64: { field: "fp64_contents", values: [0, -0, 0.1, Number.NaN, Number.NEGATIVE_INFINITY, 5e-324], pack: words(Float64Array as never) },
  BYTES: {
    field: "bytes_contents",
    values: ["", "one", "dreißig", "四十", "a".repeat(300), "\0"],
    pack: (values) => encodeBytesElements(values as string[]),
  },
};
const named = Object.entries(kinds) as [Exclude<Datatype, "FP16">, Kind][];

const shapes: { what: string; shape: number[]; count: number }[] = [
  { what: "an empty tensor", shape: [0, 3], count: 0 },
  { what: "a scalar", shape: [], count: 1 },
  { what: "a batch", shape: [2, 3], count: 6 },
];

const wireValue = (datatype: Datatype, value: unknown): unknown => (datatype === "BYTES" ? Buffer.from(value as string) : value);

function request(fields: Record<string, unknown>): Buffer {
  return infer.requestSerialize({ model_name: "m", ...fields }) as Buffer;
}

function refusal(fields: Record<string, unknown> | Buffer): SwitchyardError {
  try {
    decodeModelInferRequest(Buffer.isBuffer(fields) ? fields : request(fields));
  } catch (error) {
    assert.ok(error instanceof SwitchyardError, String(error));
    return error;
  }
  assert.fail("it was not refused");
}

for (const { what, shape, count } of shapes) {
  test(`${what} of every datatype comes as it went, raw and typed, in requests`, () => {
    for (const [datatype, { field, values, pack }] of named) {
      const some = values.slice(0, count);
      const bytes = pack(some);
      const head = { name: "x", datatype, shape };
      const raw = decodeModelInferRequest(request({ inputs: [head], raw_input_contents: [bytes] }));
      const contents = { [field]: some.map((value) => wireValue(datatype, value)) };
      const typed = decodeModelInferRequest(request({ inputs: [{ ...head, contents }] }));
      for (const { request: decoded } of [raw, typed]) {
        const [input] = decoded.inputs;
        assert.deepEqual([input!.datatype, input!.shape], [datatype, shape]);
        assert.deepEqual(Buffer.from(input!.bytes), Buffer.from(bytes), datatype);
      }
    }
  });

  test(`${what} of every datatype comes as it went, raw and typed, in answers`, () => {
    for (const [datatype, { field, values, pack }] of named) {
      const some = values.slice(0, count);
      const output: Tensor = { name: "y", datatype, shape, bytes: pack(some) };
      const response = { modelName: "m", modelVersion: "3", id: "seven", outputs: [output] };
      const raw = infer.responseDeserialize(Buffer.from(encodeModelInferResponse({ response })));
      assert.deepEqual([raw.model_name, raw.model_version, raw.id], ["m", "3", "seven"]);
      assert.deepEqual([raw.outputs[0].name, raw.outputs[0].datatype, raw.outputs[0].shape.map(Number)], ["y", datatype, shape]);
      assert.deepEqual(raw.raw_output_contents, [Buffer.from(output.bytes)], datatype);
      assert.equal(raw.outputs[0].contents, null);
      const written = Buffer.from(encodeModelInferResponse({ response, typedContents: true }));
      const typed = infer.responseDeserialize(written);
      if (count > 0) assert.deepEqual(written, infer.responseSerialize(typed), `${datatype} is written as every codec writes it`);
      assert.deepEqual(typed.raw_output_contents, []);
      const expected = some.map((value) => (datatype === "FP32" ? Math.fround(value as number) : wireValue(datatype, value)));
      assert.deepEqual(typed.outputs[0].contents[field], expected, datatype);
    }
  });
}

test("random whole numbers are exact both ways", () => {
  fc.assert(
    fc.property(fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })), (numbers) => {
      const values = BigInt64Array.from(numbers);
      const contents = { int64_contents: numbers.map(String) };
      const decoded = decodeModelInferRequest(
        request({ inputs: [{ name: "x", datatype: "INT64", shape: [numbers.length], contents: contents }] }),
      );
      assert.deepEqual(Buffer.from(decoded.request.inputs[0]!.bytes), Buffer.from(values.buffer));
      const response = { modelName: "m", modelVersion: "1", outputs: [tensor("y", values)] };
      const answer = infer.responseDeserialize(Buffer.from(encodeModelInferResponse({ response, typedContents: true })));
      assert.deepEqual(answer.outputs[0].contents.int64_contents, contents.int64_contents);
    }),
  );
});

test("raw contents and packed floats stay where they came", () => {
  const bytes = new Uint8Array(new Float32Array([1, 2, 3]).buffer);
  const head = { name: "x", datatype: "FP32", shape: [3] };
  for (const fields of [
    { inputs: [head], raw_input_contents: [bytes] },
    { inputs: [{ ...head, contents: { fp32_contents: [1, 2, 3] } }] },
  ]) {
    const message = request(fields);
    const { bytes: came } = decodeModelInferRequest(message).request.inputs[0]!;
    assert.equal(came.buffer, message.buffer);
    assert.deepEqual(Buffer.from(came), Buffer.from(bytes));
  }
});

test("numbers that are not packed, and runs in pieces, are one tensor", () => {
  const input = Buffer.concat([
    Buffer.from([0x0a, 1, 0x78, 0x12, 5]), // name "x", datatype
    Buffer.from("INT32"),
    Buffer.from([0x18, 2, 0x18, 2]), // shape 2, 2, each on its own
    Buffer.from([0x2a, 4, 0x10, 7, 0x10, 8]), // contents: 7 and 8, each on its own
    Buffer.from([0x2a, 4, 0x12, 2, 9, 10]), // more contents: 9 and 10 in one run
  ]);
  const { inputs } = decodeModelInferRequest(Buffer.concat([Buffer.from([0x2a, input.length]), input])).request;
  assert.deepEqual(inputs[0]!.shape, [2, 2]);
  assert.deepEqual([...new Int32Array(Uint8Array.from(inputs[0]!.bytes).buffer)], [7, 8, 9, 10]);
});

test("parameters, outputs and ids are those of the protocol, and a client's keys are data", () => {
  const decoded = decodeModelInferRequest(
    request({
      model_version: "2",
      id: "a1",
      parameters: {
        timeout: { int64_param: "500000" },
        priority: { uint64_param: "1" },
        huge: { int64_param: "-9007199254740993" },
        most: { uint64_param: "18446744073709551615" },
        half: { double_param: 0.5 },
        text: { string_param: "x" },
        flag: { bool_param: false },
        constructor: { string_param: "data" },
        typed_contents: { bool_param: true },
        triton_enable_empty_final_response: { bool_param: true },
      },
      outputs: [{ name: "y", parameters: { classification: { int64_param: "3" } } }, { name: "z" }],
    }),
  );
  assert.deepEqual([decoded.modelName, decoded.modelVersion, decoded.typedContents, decoded.marksFinal], ["m", "2", true, true]);
  assert.deepEqual({ ...decoded.request.parameters }, {
    timeout: 500_000,
    priority: 1,
    huge: "-9007199254740993",
    most: "18446744073709551615",
    half: 0.5,
    text: "x",
    flag: false,
    constructor: "data",
    typed_contents: true,
  } as object);
  assert.equal(decoded.request.id, "a1");
  assert.deepEqual(decoded.request.outputs, [{ name: "y", classification: 3 }, { name: "z" }]);
});

test("a key that JavaScript has a meaning for is a key", () => {
  const text = (field: number, value: string): Buffer => Buffer.concat([Buffer.from([(field << 3) | 2, value.length]), Buffer.from(value)]);
  const value = text(3, "x"); // string_param
  const entry = Buffer.concat([text(1, "__proto__"), Buffer.from([0x12, value.length]), value]);
  const { parameters } = decodeModelInferRequest(Buffer.concat([Buffer.from([0x22, entry.length]), entry])).request;
  assert.deepEqual(Object.entries(parameters), [["__proto__", "x"]]);
});

test("what does not fit is refused by name", () => {
  const head = { name: "x", datatype: "INT32", shape: [2] };
  const eight = new Uint8Array(8);
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { inputs: [{ ...head, contents: { int_contents: [1, 2] } }], raw_input_contents: [eight] },
      /^contents field must not be specified when using raw_input_contents for 'x' for model 'm'$/,
    ],
    [{ inputs: [head, { ...head, name: "z" }], raw_input_contents: [eight] }, /'z'.*raw_input_contents/],
    [{ inputs: [head], raw_input_contents: [eight, eight] }, /unexpected additional input data for model/],
    [{ inputs: [head], raw_input_contents: [new Uint8Array(7)] }, /'x': INT32 \[2\] takes 8 bytes, got 7/],
    [{ inputs: [head] }, /'x': shape \[2\] has 2 elements, contents has 0/],
    [{ inputs: [{ ...head, contents: { int_contents: [1] } }] }, /'x': shape \[2\] has 2 elements, contents has 1/],
    [{ inputs: [{ ...head, contents: { fp32_contents: [1, 2] } }] }, /'x': INT32 is sent in int_contents, got fp32_contents/],
    [{ inputs: [{ ...head, datatype: "INT8", contents: { int_contents: [1, 128] } }] }, /'x': element 1 must be .*-128 to 127, got 128/],
    [{ inputs: [{ ...head, datatype: "UINT16", contents: { uint_contents: [65_536, 1] } }] }, /'x': element 0 must be .*0 to 65535/],
    [{ inputs: [{ ...head, datatype: "FP16", contents: { fp32_contents: [1, 2] } }] }, /'x': FP16 has no typed contents, use raw/],
    [{ inputs: [{ ...head, datatype: "BF16", contents: { fp32_contents: [1, 2] } }] }, /'x': datatype must be one of/],
    [{ inputs: [{ ...head, shape: [-1] }] }, /axis 0 of its shape/],
    [{ inputs: [{ ...head, shape: ["9223372036854775807", 4] }] }, /'x'.*axis 0 of its shape|byte size overflow for input 'x'/],
    [{ inputs: [head, head], raw_input_contents: [eight, eight] }, /input 'x' already exists in request/],
    [{ inputs: [{ ...head, parameters: { shared_memory_region: { string_param: "r" } } }] }, /shared memory is not supported/],
    [
      { inputs: [{ ...head, datatype: "BYTES", contents: { bytes_contents: [Buffer.from("a"), Buffer.from([255])] } }] },
      /'x': BYTES element 1/,
    ],
    [{ parameters: { triton_x: { bool_param: true } } }, /begin with 'triton_'/],
    [{ parameters: { nothing: {} } }, /parameter 'nothing' must be/],
    [{ parameters: { typed_contents: { string_param: "yes" } } }, /typed_contents must be a bool_param/],
    [{ outputs: [{ name: "y" }, { name: "y" }] }, /output 'y' already exists in request/],
    [{ id: "a".repeat(257) }, /id must be/],
  ];
  for (const [fields, text] of cases) {
    const error = refusal(fields);
    assert.equal(error.code, "invalid_request");
    assert.match(error.message, text);
    assert.ok(error.facts.fields?.[0]?.expected, error.message);
  }
  const output: Tensor = { name: "y", datatype: "FP16", shape: [1], bytes: new Uint8Array(2) };
  const response = { modelName: "m", modelVersion: "1", outputs: [output] };
  assert.throws(() => encodeModelInferResponse({ response, typedContents: true }), /'y': FP16 has no typed contents/);
});

test("small messages do not become large ones: entries are bounded", () => {
  for (const [tag, what] of [
    [0x2a, "inputs"],
    [0x32, "outputs"],
    [0x3a, "raw_input_contents"],
  ] as const) {
    const message = Buffer.alloc(2 * 1_025);
    for (let at = 0; at < message.length; at += 2) message[at] = tag;
    assert.throws(() => decodeModelInferRequest(message), new RegExp(`more than 1024 ${what}`));
  }
});

/** One input `x`, whose `contents` is this. */
function withContents(datatype: string, count: number, contents: Buffer): Buffer {
  const field = (number: number, bytes: Buffer) => Buffer.concat([varintOf((number << 3) | 2), varintOf(bytes.length), bytes]);
  const input = [field(1, Buffer.from("x")), field(2, Buffer.from(datatype)), field(3, varintOf(count)), field(5, contents)];
  return field(5, Buffer.concat(input));
}

function varintOf(value: number): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) | 0x80);
  return Buffer.from([...bytes, left]);
}

test("typed contents are bounded where they take far more memory than bytes, and the refusal advises raw", () => {
  const mostPieces = 1_048_576;
  const mostVarintBytes = 16 * 1024 * 1024;
  const elements = (count: number): Buffer => Buffer.alloc(2 * count, Buffer.from([0x42, 0])); // empty elements of BYTES
  const singles = (count: number): Buffer => Buffer.alloc(5 * count, Buffer.from([0x35, 0, 0, 0x80, 0x3f])); // FP32, not packed
  const packed = (count: number): Buffer => Buffer.concat([Buffer.from([0x22]), varintOf(count), Buffer.alloc(count, 1)]);
  for (const [datatype, most, contents] of [
    ["BYTES", mostPieces, elements],
    ["FP32", mostPieces, singles],
    ["UINT8", mostVarintBytes, packed],
  ] as const) {
    const [input] = decodeModelInferRequest(withContents(datatype, most, contents(most))).request.inputs;
    assert.deepEqual([input!.datatype, input!.shape], [datatype, [most]]);
    assert.throws(
      () => decodeModelInferRequest(withContents(datatype, most + 1, contents(most + 1))),
      (error: SwitchyardError) =>
        error.code === "invalid_request" && /'x': contents is too long, use raw_input_contents/.test(error.message),
      datatype,
    );
  }
});

test("bytes that are no message are refused, whatever they are", () => {
  const whole = request({
    id: "a1",
    parameters: { timeout: { int64_param: "5" } },
    inputs: [
      { name: "x", datatype: "INT64", shape: [2], contents: { int64_contents: ["-1", "300"] } },
      { name: "t", datatype: "BYTES", shape: [1], contents: { bytes_contents: [Buffer.from("abc")] } },
    ],
    outputs: [{ name: "y" }],
  });
  const isRefusedOrRead = (bytes: Buffer): void => {
    try {
      decodeModelInferRequest(bytes);
    } catch (error) {
      assert.ok(error instanceof SwitchyardError && error.code === "invalid_request", `${bytes.toString("hex")}: ${error}`);
    }
  };
  for (let end = 0; end < whole.length; end++) isRefusedOrRead(whole.subarray(0, end));
  for (let at = 0; at < whole.length; at++) {
    for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
      const broken = Buffer.from(whole);
      broken[at] = byte;
      isRefusedOrRead(broken);
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => isRefusedOrRead(Buffer.from(bytes))));
  assert.match(refusal(Buffer.from([0x2a, 0xff, 0x01])).message, /The message is no ModelInferRequest/);
  const endless = Buffer.concat([Buffer.from([0x0a, 1, 0x78, 0x12, 4]), Buffer.from("FP32"), Buffer.from([0x1a, 1, 0x80])]); // shape: half a number
  assert.match(refusal(Buffer.concat([Buffer.from([0x2a, endless.length]), endless])).message, /does not end/);
});

test("fields that are not known are stepped over", () => {
  const unknown = Buffer.from([0xf2, 0x07, 3, 1, 2, 3, 0xf8, 0x07, 5]); // fields 126 and 127
  const decoded = decodeModelInferRequest(Buffer.concat([unknown, request({ id: "a1" }), unknown]));
  assert.equal(decoded.request.id, "a1");
});

test("answers of a stream carry the answer, or the error with what it is about", () => {
  const response = { modelName: "m", modelVersion: "1", id: "a1", outputs: [tensor("y", Float32Array.of(1))] };
  const answer = encodeModelInferResponse({ response, marksFinal: true });
  const good = stream.responseDeserialize(Buffer.from(encodeStreamedAnswer({ answer })));
  assert.equal(good.error_message, "");
  assert.equal(good.infer_response.id, "a1");
  assert.equal(good.infer_response.parameters.triton_final_response.bool_param, true);
  const failed = encodeStreamedAnswer({ error: "no such thing", modelName: "m", modelVersion: "", id: "a2" });
  const bad = stream.responseDeserialize(Buffer.from(failed));
  assert.deepEqual([bad.error_message, bad.infer_response.model_name, bad.infer_response.id], ["no such thing", "m", "a2"]);
});

test("outputs that are classified come as text, in the order asked", () => {
  const response = {
    modelName: "m",
    modelVersion: "1",
    outputs: [tensor("y", Float32Array.of(0.125, 0.75, 0.25)), tensor("z", Float32Array.of(1))],
  };
  const wishes = { outputs: [{ name: "z" }, { name: "y", classification: 2 }] };
  const answer = infer.responseDeserialize(Buffer.from(encodeModelInferResponse({ response, wishes, labels: { y: ["a", "b", "c"] } })));
  assert.deepEqual(
    answer.outputs.map(({ name, datatype, shape }: { name: string; datatype: string; shape: string[] }) => [name, datatype, shape]),
    [
      ["z", "FP32", ["1"]],
      ["y", "BYTES", ["2"]],
    ],
  );
  assert.deepEqual(answer.raw_output_contents[1], Buffer.from(encodeBytesElements(["0.75:1:b", "0.25:2:c"])));
});
