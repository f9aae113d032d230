import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeInferRequest, decodeRawRequest, encodeBytesElements, type ModelSignature, SwitchyardError } from "@switchyard/protocol";
import { decodeJobRequest } from "@switchyard/protocol/schemas";
import fc from "fast-check";

const text = new TextEncoder();

function json(value: unknown): Uint8Array {
  return text.encode(typeof value === "string" ? value : JSON.stringify(value));
}

function binary(header: unknown, ...parts: Uint8Array[]): { body: Uint8Array; headerLength: number } {
  const head = json(header);
  return { body: Buffer.concat([head, ...parts]), headerLength: head.length };
}

function ints(...values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}

function one(fields: Record<string, unknown>): { body: Uint8Array } {
  return { body: json({ inputs: [{ name: "x", datatype: "INT32", shape: [2], data: [1, 2], ...fields }] }) };
}

/** Asserts a refusal by its text and by the pointer of the first field. */
function refused(run: () => unknown, message: RegExp, pointer: string): void {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof SwitchyardError, String(error));
    assert.equal(error.code, "invalid_request");
    assert.match(error.message, message);
    assert.equal(error.facts.fields?.[0]?.pointer, pointer);
    return true;
  });
}

test("flat and nested data of one request become the same bytes", () => {
  const { inputs } = decodeInferRequest({
    body: json({
      inputs: [
        { name: "flat", datatype: "INT32", shape: [2, 2], data: [1, 2, 3, 4] },
        {
          name: "nested",
          datatype: "INT32",
          shape: [2, 2],
          data: [
            [1, 2],
            [3, 4],
          ],
        },
      ],
    }),
  });
  assert.deepEqual(inputs[0]!.bytes, ints(1, 2, 3, 4));
  assert.deepEqual(inputs[1]!.bytes, inputs[0]!.bytes);
});

test("nesting that contradicts the shape is refused, superfluous nesting is not", () => {
  refused(
    () =>
      decodeInferRequest(
        one({
          shape: [3, 2],
          data: [
            [1, 2, 3],
            [4, 5, 6],
          ],
        }),
      ),
    /neither flat nor nested/,
    "/inputs/0/data",
  );
  refused(() => decodeInferRequest(one({ shape: [2, 2], data: [[1, 2, 3], [4]] })), /neither flat nor nested/, "/inputs/0/data");
  assert.deepEqual(decodeInferRequest(one({ shape: [2, 2, 1], data: [[1, 2, 3, 4]] })).inputs[0]!.bytes, ints(1, 2, 3, 4));
  const deep = (levels: number) =>
    `{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,1],"data":${"[".repeat(levels)}"a"${"]".repeat(levels)}}]}`;
  assert.equal(decodeInferRequest({ body: json(deep(50)) }).inputs[0]!.bytes.length, 5);
  refused(() => decodeInferRequest({ body: json(deep(120)) }), /JSON nesting depth exceeds maximum allowed limit \(100\)/, "");
});

test("brackets inside strings do not count as nesting", () => {
  const data = ['"'.concat("[".repeat(500)), "\\[{", "}"];
  assert.equal(decodeInferRequest(one({ datatype: "BYTES", shape: [3], data })).inputs.length, 1);
});

test("whole numbers beyond 2^53 arrive exactly", () => {
  const body = json(
    '{"inputs":[{"name":"a","datatype":"INT64","shape":[3],"data":[-9223372036854775808,9223372036854775807,-1]},' +
      '{"name":"b","datatype":"UINT64","shape":[1,2],"data":[[18446744073709551615,4294967296]]},' +
      '{"name":"c","datatype":"FP64","shape":[1],"data":[100000000000000000000]}]}',
  );
  const [a, b, c] = decodeInferRequest({ body }).inputs;
  assert.deepEqual(new BigInt64Array(a!.bytes.buffer), BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, -1n));
  assert.deepEqual(new BigUint64Array(b!.bytes.buffer), BigUint64Array.of(2n ** 64n - 1n, 2n ** 32n));
  assert.deepEqual(new Float64Array(c!.bytes.buffer), Float64Array.of(1e20));
});

test("exact numbers are found among strings, fractions and exponents that look like them", () => {
  const body = json(
    '{"id":"a\\\\\\"1234567890123456789","inputs":[{"name":"s","datatype":"BYTES","shape":[2],"data":["12345678901234567890","\\\\"]},' +
      '{"name":"d","datatype":"FP64","shape":[3],"data":[-0.12345678901234567890,1234567890123456789e-3,12345678901234567890]},' +
      '{"name":"x","datatype":"INT64","shape":[2],"data":[ -1234567890123456789 ,1e3]}]}',
  );
  const { id, inputs } = decodeInferRequest({ body });
  assert.equal(id, 'a\\"1234567890123456789');
  assert.equal(inputs[0]!.bytes.length, 4 + 20 + 4 + 1);
  assert.deepEqual(new BigInt64Array(inputs[2]!.bytes.buffer), BigInt64Array.of(-1234567890123456789n, 1000n));
  refused(
    () => decodeInferRequest(one({ datatype: "INT64", data: [2 ** 60, "1234567890123456789"] })),
    /element 1 must be/,
    "/inputs/0/data/1",
  );
});

test("an element that its datatype cannot hold is refused by index", () => {
  const cases: [datatype: string, data: string][] = [
    ["INT32", "[1,2147483648]"],
    ["INT32", "[1,1.5]"],
    ["UINT8", "[1,-1]"],
    ["INT64", "[1,9223372036854775808]"],
    ["UINT64", "[1,-1]"],
    ["UINT64", "[1,1e19]"],
    ["UINT64", `[1,${"9".repeat(4000)}]`],
    ["FP32", "[1,1e39]"],
    ["FP64", "[1,1e999]"],
    ["FP32", '[1,"NaN"]'],
    ["FP32", "[1,null]"],
    ["BOOL", "[1,2]"],
    ["BYTES", '["a",1]'],
    ["BYTES", '["a","\\ud800"]'],
    ["INT32", "[1,[2]]"],
  ];
  for (const [datatype, data] of cases) {
    const body = json(`{"inputs":[{"name":"weight","datatype":"${datatype}","shape":[2],"data":${data}}]}`);
    refused(() => decodeInferRequest({ body }), /'weight': element 1 must be/, "/inputs/0/data/1");
  }
});

test("booleans may be words or digits", () => {
  assert.deepEqual(
    decodeInferRequest(one({ datatype: "BOOL", shape: [4], data: [true, false, 1, 0] })).inputs[0]!.bytes,
    Uint8Array.of(1, 0, 1, 0),
  );
});

test("half precision in JSON is refused with the advice to use binary", () => {
  refused(() => decodeInferRequest(one({ datatype: "FP16" })), /use binary/, "/inputs/0/data");
  refused(() => decodeInferRequest(one({ datatype: "BF16" })), /datatype must be one of/, "/inputs/0/datatype");
});

test("binary and JSON inputs may be mixed, and binary ones are views on the body", () => {
  const source = binary(
    {
      id: "7",
      parameters: { binary_data_output: true },
      inputs: [
        { name: "a", datatype: "INT32", shape: [2], parameters: { binary_data_size: 8 } },
        { name: "b", datatype: "INT32", shape: [1], data: [9] },
        { name: "c", datatype: "BYTES", shape: [2], parameters: { binary_data_size: 11 } },
      ],
      outputs: [
        { name: "y", parameters: { binary_data: false } },
        { name: "z", parameters: { classification: 3 } },
      ],
    },
    ints(1, 2),
    encodeBytesElements(["né", ""]),
  );
  const request = decodeInferRequest(source);
  assert.equal(request.id, "7");
  assert.equal(request.binaryDefault, true);
  assert.deepEqual(request.outputs, [
    { name: "y", binary: false },
    { name: "z", classification: 3 },
  ]);
  assert.deepEqual(
    request.inputs.map((input) => Buffer.from(input.bytes).toString("hex")),
    ["0100000002000000", "09000000", "030000006ec3a900000000"],
  );
  assert.equal(request.inputs[0]!.bytes.buffer, source.body.buffer);
});

test("a length header that covers the whole body is legal", () => {
  const body = json({ id: "", inputs: [{ name: "x", datatype: "FP32", shape: [], data: [1] }] });
  const request = decodeInferRequest({ body, headerLength: body.length });
  assert.deepEqual(request.inputs[0]!.shape, []);
  assert.equal("id" in request, false);
});

test("sizes that lie are refused, naming the field", () => {
  const entry = { name: "x", datatype: "INT32", shape: [2], parameters: { binary_data_size: 8 } };
  refused(() => decodeInferRequest(binary({ inputs: [entry] }, ints(1))), /only 4 bytes are left/, "/inputs/0/parameters/binary_data_size");
  refused(() => decodeInferRequest(binary({ inputs: [entry] }, ints(1, 2, 3))), /unexpected additional input data for model/, "/inputs");
  refused(() => decodeInferRequest(binary({ inputs: [{ ...entry, shape: [3] }] }, ints(1, 2))), /takes 12 bytes, got 8/, "/inputs/0");
  refused(
    () => decodeInferRequest({ body: json({ inputs: [entry] }) }),
    /no Inference-Header-Content-Length/,
    "/inputs/0/parameters/binary_data_size",
  );
  refused(() => decodeInferRequest({ body: json("{}"), headerLength: 3 }), /must be from 1 to 2/, "Inference-Header-Content-Length");
  refused(() => decodeInferRequest(one({ shape: [3] })), /has 3 elements, data has 2/, "/inputs/0/data");
  refused(() => decodeInferRequest(one({ shape: [-2] })), /axis 0/, "/inputs/0/shape/0");
  refused(() => decodeInferRequest(one({ shape: [2 ** 40, 2 ** 40] })), /byte size overflow for input 'x'/, "/inputs/0/shape");
  refused(() => decodeInferRequest(one({ shape: [2 ** 31], data: [1] })), /data has 1/, "/inputs/0/data");
});

test("broken text in BYTES is refused by tensor and index", () => {
  const entry = (size: number, shape: number[]) => ({
    inputs: [{ name: "words", datatype: "BYTES", shape, parameters: { binary_data_size: size } }],
  });
  const bad = encodeBytesElements(["ok", Uint8Array.of(0xff)]);
  refused(() => decodeInferRequest(binary(entry(bad.length, [2]), bad)), /'words': BYTES element 1 is not valid UTF-8/, "/inputs/0");
  const cut = bad.slice(0, -1);
  refused(() => decodeInferRequest(binary(entry(cut.length, [2]), cut)), /'words': BYTES element 1 runs past/, "/inputs/0");
  const good = encodeBytesElements(["a"]);
  refused(() => decodeInferRequest(binary(entry(good.length, [2]), good)), /has 2 elements, got 1/, "/inputs/0");
});

test("names may not repeat and reserved or structured parameters are refused", () => {
  const x = { name: "x", datatype: "INT32", shape: [1], data: [1] };
  refused(() => decodeInferRequest({ body: json({ inputs: [x, x] }) }), /already exists in request/, "/inputs/1/name");
  refused(
    () => decodeInferRequest({ body: json({ inputs: [x], outputs: [{ name: "y" }, { name: "y" }] }) }),
    /already exists/,
    "/outputs/1/name",
  );
  refused(() => decodeInferRequest({ body: json({ inputs: [x], parameters: { triton_x: 1 } }) }), /triton_/, "/parameters/triton_x");
  refused(() => decodeInferRequest({ body: json({ inputs: [x], parameters: { "a/b": {} } }) }), /must be a string/, "/parameters/a~1b");
});

test("keys that mean something to JavaScript are data and pollute nothing", () => {
  const body = json(
    '{"__proto__":{"inputs":[]},"constructor":{"prototype":{"x":1}},"parameters":{"__proto__":"p","constructor":"c"},"inputs":[]}',
  );
  const { parameters } = decodeInferRequest({ body });
  assert.deepEqual(Object.entries(parameters), [
    ["__proto__", "p"],
    ["constructor", "c"],
  ]);
  assert.equal(({} as Record<string, unknown>).x, undefined);
  assert.equal(Object.getPrototypeOf(parameters), Object.prototype);
});

const signature = (datatype: "FP32" | "BYTES", shape: number[], inputs = 1): ModelSignature => ({
  inputs: Array.from({ length: inputs }, (_, index) => ({ name: `x${index}`, datatype, shape })),
  outputs: [],
});

test("a raw body becomes the model's only input, its shape deduced", () => {
  const body = new Uint8Array(16);
  const shapeOf = (shape: number[]) => decodeRawRequest({ body, signature: signature("FP32", shape) }).inputs[0]!.shape;
  assert.deepEqual(shapeOf([4]), [4]);
  assert.deepEqual(shapeOf([-1, 4]), [1, 4]);
  assert.deepEqual(shapeOf([-1, -1]), [1, 4]);
  assert.deepEqual(shapeOf([2, -1]), [2, 2]);
  const word = decodeRawRequest({ body: text.encode("427"), signature: signature("BYTES", [-1, 1]) });
  assert.deepEqual(word.inputs, [{ name: "x0", datatype: "BYTES", shape: [1, 1], bytes: encodeBytesElements(["427"]) }]);
  assert.equal(word.binaryDefault, true);
});

test("a raw body that the model cannot take is refused", () => {
  const body = new Uint8Array(16);
  const raw =
    (...rest: Parameters<typeof signature>) =>
    () =>
      decodeRawRequest({ body, signature: signature(...rest) });
  refused(raw("FP32", [4], 2), /Raw request must only have 1 input/, "Inference-Header-Content-Length");
  refused(raw("BYTES", [-1, -1]), /the model must have input shape \[1\]/, "Inference-Header-Content-Length");
  refused(raw("FP32", [-1, -1, -1]), /can not be deduced/, "Inference-Header-Content-Length");
  refused(raw("FP32", [-1, 3]), /cannot be made of 16 bytes/, "");
});

const job = { model: "digits", inputs: [{ name: "x", datatype: "INT32", shape: [1], data: [1] }] };

test("a job body carries the request and what the job needs", () => {
  const decoded = decodeJobRequest({
    body: json({
      ...job,
      version: 2,
      timeout_ms: 1500,
      class: "batch",
      max_attempts: 10,
      durability: "fsync",
      webhook: "https://example.org/hook",
      tags: { team: "vision" },
      idempotency_key: "k",
    }),
  });
  const { request, ...rest } = decoded;
  assert.equal(request.inputs.length, 1);
  assert.deepEqual(rest, {
    model: "digits",
    version: 2,
    timeoutMs: 1500,
    class: "batch",
    maxAttempts: 10,
    durability: "fsync",
    webhook: "https://example.org/hook",
    tags: { team: "vision" },
    idempotencyKey: "k",
  });
});

test("an optional field that is null counts as absent", () => {
  const nothing = { id: null, parameters: null, outputs: null };
  const body = json({ ...nothing, inputs: [{ name: "x", datatype: "INT32", shape: [1], data: [1], parameters: null }] });
  const bare = one({ shape: [1], data: [1] });
  assert.deepEqual(decodeInferRequest({ body }), decodeInferRequest(bare));
  assert.deepEqual(decodeJobRequest({ body: json({ ...job, ...nothing }) }), decodeJobRequest({ body: json(job) }));
  assert.deepEqual(decodeInferRequest({ body: json({ inputs: [], outputs: [{ name: "y", parameters: null }] }) }).outputs, [{ name: "y" }]);
});

test("a job body with a wrong or unknown field is refused by pointer", () => {
  const cases: [fields: Record<string, unknown>, pointer: string][] = [
    [{ timeout_ms: 0 }, "/timeout_ms"],
    [{ timeout_ms: -5 }, "/timeout_ms"],
    [{ timeout_ms: 1.5 }, "/timeout_ms"],
    [{ timeout_ms: "100" }, "/timeout_ms"],
    [{ timeout_ms: null }, "/timeout_ms"],
    [{ timeout_ms: 86_400_001 }, "/timeout_ms"],
    [{ model: "../etc" }, "/model"],
    [{ model: undefined }, "/model"],
    [{ version: 0 }, "/version"],
    [{ class: "urgent" }, "/class"],
    [{ max_attempts: 11 }, "/max_attempts"],
    [{ durability: "best" }, "/durability"],
    [{ tags: { a: 1 } }, "/tags/a"],
    [{ tags: { a: "x".repeat(257) } }, "/tags/a"],
    [{ tags: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`t${index}`, ""])) }, "/tags"],
    [{ timeoutMs: 5 }, "/timeoutMs"],
    [{ idempotency_key: "" }, "/idempotency_key"],
  ];
  for (const [fields, pointer] of cases) refused(() => decodeJobRequest({ body: json({ ...job, ...fields }) }), /./, pointer);
});

function onlyRefusals(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof SwitchyardError && error.code === "invalid_request", String(error));
  }
}

test("whatever the bytes are, the answer is a request or a refusal", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.option(fc.nat(220), { nil: undefined }), (body, headerLength) => {
      onlyRefusals(() => decodeInferRequest({ body, headerLength }));
      onlyRefusals(() => decodeJobRequest({ body, headerLength }));
      onlyRefusals(() => decodeRawRequest({ body, signature: signature(body.length % 2 ? "FP32" : "BYTES", [-1, 1]) }));
    }),
  );
});

test("whatever the JSON is, the answer is a request or a refusal", () => {
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom(1e308, -0, 2 ** 53, [[]], [[1], [2]], "__proto__", { __proto__: null }));
  const tensor = fc.record(
    {
      name: fc.oneof(fc.constant("x"), value),
      datatype: fc.oneof(fc.constantFrom("INT64", "FP32", "BYTES", "BOOL", "FP16"), value),
      shape: fc.oneof(fc.array(fc.integer({ min: -1, max: 3 })), value),
      data: value,
      parameters: value,
    },
    { requiredKeys: ["name", "datatype", "shape"] },
  );
  const request = fc.record(
    { id: value, inputs: fc.oneof(fc.array(tensor), value), outputs: value, parameters: value, model: value },
    { requiredKeys: ["inputs"] },
  );
  fc.assert(
    fc.property(fc.oneof(request, value), (body) => {
      onlyRefusals(() => decodeInferRequest({ body: json(JSON.stringify(body)) }));
      onlyRefusals(() => decodeJobRequest({ body: json(JSON.stringify(body)) }));
    }),
    { numRuns: 500 },
  );
});

test("a valid request with bytes flipped is a request or a refusal", () => {
  const valid = binary(
    {
      parameters: { a: 1 },
      inputs: [
        { name: "a", datatype: "BYTES", shape: [2, 1], parameters: { binary_data_size: 10 } },
        { name: "b", datatype: "INT64", shape: [2], data: [2 ** 53, 1] },
      ],
      outputs: [{ name: "y", parameters: { classification: 1 } }],
    },
    encodeBytesElements(["a", "b"]),
  );
  assert.equal(decodeInferRequest(valid).inputs.length, 2);
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(valid.body.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }), (flips) => {
      const body = Uint8Array.from(valid.body);
      for (const [at, byte] of flips) body[at] = byte;
      onlyRefusals(() => decodeInferRequest({ body, headerLength: valid.headerLength }));
    }),
    { numRuns: 1000 },
  );
});

test("an id has at most 256 characters, in a job too", () => {
  const request = { inputs: [{ name: "x", datatype: "INT32", shape: [2], data: [1, 2] }] };
  assert.equal(decodeInferRequest({ body: json({ ...request, id: "i".repeat(256) }) }).id?.length, 256);
  refused(() => decodeInferRequest({ body: json({ ...request, id: "i".repeat(257) }) }), /at most 256 characters, got 257/, "/id");
  refused(() => decodeJobRequest({ body: json({ ...request, model: "m", id: "i".repeat(1e6) }) }), /got 1000000/, "/id");
});
