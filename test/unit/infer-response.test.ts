import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Datatype,
  decodeInferRequest,
  decodeInferResponse,
  type EncodedBody,
  elementBytes,
  elementCount,
  encodeBytesElements,
  encodeInferRequest,
  encodeInferResponse,
  type InferBody,
  SwitchyardError,
  type Tensor,
  tensor,
  toStrings,
} from "@switchyard/protocol";
import { decodeJobRequest } from "@switchyard/protocol/schemas";
import fc from "fast-check";

const datatypes = Object.keys(elementBytes) as Datatype[];
const shapes = { scalar: [], empty: [2, 0], dynamic: [3, 2], batch: [4] };

function sent(body: EncodedBody): InferBody {
  return { body: Buffer.concat(body.parts), headerLength: body.headerLength };
}

/** Values that differ from element to element and reach the ends of the datatype. */
function sample(datatype: Datatype, shape: number[]): Tensor {
  const count = elementCount(shape);
  if (datatype === "BYTES") {
    return tensor(
      "t",
      Array.from({ length: count }, (_, index) => ["", 'é\n"', "𝄞"][index % 3]!),
      shape,
      "BYTES",
    );
  }
  const bytes = new Uint8Array(count * elementBytes[datatype]);
  for (let at = 0; at < bytes.length; at++) bytes[at] = datatype === "BOOL" ? at % 2 : at % elementBytes[datatype] === 0 ? 255 - at : 0x3f;
  return { name: "t", datatype, shape, bytes };
}

for (const datatype of datatypes) {
  for (const [kind, shape] of Object.entries(shapes)) {
    for (const binary of [false, true]) {
      if (datatype === "FP16" && !binary) continue;
      test(`a ${kind} ${datatype} tensor survives the way there and back as ${binary ? "binary" : "JSON"}`, () => {
        const original = sample(datatype, shape);
        const request = decodeInferRequest(sent(encodeInferRequest({ inputs: [original], binary })));
        assert.deepEqual(request.inputs, [original]);
        assert.equal(request.binaryDefault, binary);
        const response = { modelName: "m", modelVersion: "1", id: "i", outputs: request.inputs };
        assert.deepEqual(decodeInferResponse(sent(encodeInferResponse({ response, wishes: request }))), {
          ...response,
          outputs: [original],
        });
      });
    }
  }
}

test("64-bit and floating values survive JSON exactly", () => {
  fc.assert(
    fc.property(
      fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true })),
      fc.array(fc.double({ noNaN: true, noDefaultInfinity: true })),
      (longs, floats, doubles) => {
        const inputs = [
          tensor("l", BigInt64Array.from(longs)),
          tensor(
            "u",
            BigUint64Array.from(longs, (value) => BigInt.asUintN(64, value)),
          ),
          tensor("f", Float32Array.from(floats)),
          tensor("d", Float64Array.from(doubles)),
        ];
        assert.deepEqual(decodeInferRequest(sent(encodeInferRequest({ inputs, binary: false }))).inputs, inputs);
      },
    ),
  );
});

test("strings of any content survive both forms", () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary" })), fc.boolean(), (words, binary) => {
      const [input] = decodeInferRequest(
        sent(encodeInferRequest({ inputs: [tensor("w", words, [words.length], "BYTES")], binary })),
      ).inputs;
      assert.deepEqual(toStrings(input!), words);
    }),
  );
});

const answer = {
  modelName: "m",
  modelVersion: "3",
  outputs: [tensor("p", Float32Array.of(0.25, 0.5, 0.25, 0.125, 0, 0.875), [2, 3]), tensor("n", BigInt64Array.of(7n, 2n ** 60n))],
};

test("an answer without binary outputs is plain JSON, flat and exact", () => {
  const body = encodeInferResponse({ response: answer });
  assert.equal(body.headerLength, undefined);
  assert.equal(body.contentType, "application/json");
  assert.equal(
    Buffer.concat(body.parts).toString(),
    '{"model_name":"m","model_version":"3","outputs":[{"name":"p","datatype":"FP32","shape":[2,3],"data":[0.25,0.5,0.25,0.125,0,0.875]},' +
      '{"name":"n","datatype":"INT64","shape":[2],"data":[7,1152921504606846976]}]}',
  );
});

test("outputs come in the order asked, each in the form asked", () => {
  const body = encodeInferResponse({
    response: answer,
    wishes: { outputs: [{ name: "n", binary: false }, { name: "p" }], binaryDefault: true },
  });
  assert.equal(body.contentType, "application/octet-stream");
  assert.equal(body.parts[0]!.length, body.headerLength);
  const head = JSON.parse(Buffer.from(body.parts[0]!).toString().replace("1152921504606846976", "0"));
  assert.deepEqual(head.outputs, [
    { name: "n", datatype: "INT64", shape: [2], data: [7, 0] },
    { name: "p", datatype: "FP32", shape: [2, 3], parameters: { binary_data_size: 24 } },
  ]);
  assert.equal(body.parts[1], answer.outputs[0]!.bytes);
});

test("what JSON cannot say is refused with the advice to use binary", () => {
  const cases = [
    tensor("y", Float32Array.of(1, Number.NaN)),
    tensor("y", Float64Array.of(Number.NEGATIVE_INFINITY)),
    tensor("y", Uint16Array.of(1), [1], "FP16"),
    { name: "y", datatype: "BYTES" as const, shape: [1], bytes: encodeBytesElements([Uint8Array.of(0xff)]) },
  ];
  for (const output of cases) {
    const response = { modelName: "m", modelVersion: "1", outputs: [output] };
    assert.throws(() => encodeInferResponse({ response }), { code: "invalid_request", message: /'y'.*use binary/ });
    assert.equal(encodeInferResponse({ response, wishes: { binaryDefault: true } }).parts[1], output.bytes);
  }
});

function classes(output: Tensor, k: number, labels?: string[]): { shape: number[]; words: string[] } {
  const response = { modelName: "m", modelVersion: "1", outputs: [output] };
  const wishes = { outputs: [{ name: output.name, classification: k }] };
  const [top] = decodeInferResponse(sent(encodeInferResponse({ response, wishes, labels: labels && { [output.name]: labels } }))).outputs;
  return { shape: top!.shape, words: toStrings(top!) };
}

test("classification gives the top classes of each item, ties by index, with labels where there are any", () => {
  assert.deepEqual(classes(answer.outputs[0]!, 2, ["cat", "dog"]), {
    shape: [2, 2],
    words: ["0.5:1:dog", "0.25:0:cat", "0.875:2", "0.125:0:cat"],
  });
  assert.deepEqual(classes(tensor("y", Float32Array.of(0.1, Number.NaN, 0.3)), 9), {
    shape: [3],
    words: ["0.300000012:2", "0.100000001:0", "NaN:1"],
  });
  assert.deepEqual(classes(tensor("y", [3n, 2n ** 60n]), 1), { shape: [1], words: ["1152921504606846976:1"] });
  assert.deepEqual(classes(tensor("y", Uint16Array.of(0x3c00, 0xc000, 0x4000), [3], "FP16"), 1), { shape: [1], words: ["2:2"] });
  assert.deepEqual(classes(tensor("y", [], [0, 5]), 2), { shape: [0, 2], words: [] });
  assert.throws(() => classes(tensor("y", ["a"]), 1), { code: "invalid_request", message: /BYTES/ });
});

test("the client's request carries the fields of a job", () => {
  const body = encodeInferRequest({
    inputs: [tensor("x", [1, 2], [1, 2])],
    id: "a",
    outputs: [{ name: "y", binary: true, classification: 5 }, { name: "z" }],
    parameters: { note: "n" },
    fields: { model: "digits", timeout_ms: 50 },
  });
  const job = decodeJobRequest(sent(body));
  assert.equal(job.model, "digits");
  assert.equal(job.timeoutMs, 50);
  assert.equal(job.request.id, "a");
  assert.deepEqual(job.request.outputs, [{ name: "y", binary: true, classification: 5 }, { name: "z" }]);
  assert.deepEqual(job.request.parameters, { note: "n", binary_data_output: true });
});

test("an answer that cannot be read is an internal error and nothing else", () => {
  const body = sent(encodeInferResponse({ response: answer, wishes: { binaryDefault: true } }));
  fc.assert(
    fc.property(fc.nat(body.body.length - 1), fc.nat(255), (at, byte) => {
      const broken = Uint8Array.from(body.body);
      broken[at] = byte;
      try {
        decodeInferResponse({ body: broken, headerLength: body.headerLength });
      } catch (error) {
        assert.ok(error instanceof SwitchyardError && error.code === "internal", String(error));
      }
    }),
  );
});
