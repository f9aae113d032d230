/**
 * The raw form of an inference request (Inference-Header-Content-Length: 0): the whole body is the model's only input, and its name,
 * datatype and shape come from the signature. Axis 0, where dynamic beside another dynamic axis, is the batch and is 1.
 */

import { isUtf8 } from "./bytes-elements.ts";
import type { InferRequest } from "./infer-request.ts";
import type { ModelSignature, TensorSignature } from "./model.ts";
import { refuse, shown, told } from "./request-fault.ts";
import { elementBytes, elementCount } from "./tensors.ts";

/** The request that a raw body stands for; every output comes back as binary. Throws `invalid_request`. */
export function decodeRawRequest(source: { body: Uint8Array; signature: ModelSignature }): InferRequest {
  const { inputs } = source.signature;
  const input = inputs[0];
  if (input === undefined || inputs.length !== 1) {
    const detail = `Raw request must only have 1 input (found ${inputs.length}) to be deduced from the model`;
    throw refuse({
      at: "Inference-Header-Content-Length",
      expected: "a model with one input",
      got: told(`${inputs.length} inputs`),
      detail,
    });
  }
  const tensor = input.datatype === "BYTES" ? oneString(input, source.body) : deduced(input, source.body);
  return { parameters: {}, inputs: [{ name: input.name, datatype: input.datatype, ...tensor }], binaryDefault: true };
}

function oneString(input: TensorSignature, body: Uint8Array): { shape: number[]; bytes: Uint8Array } {
  if (!input.shape.every((axis, index) => axis === 1 || (axis === -1 && index === 0))) {
    const detail = `For BYTE datatype raw input '${shown(input.name)}', the model must have input shape [1]`;
    throw refuse({
      at: "Inference-Header-Content-Length",
      expected: "a model with input shape [1]",
      got: told(`[${input.shape}]`),
      detail,
    });
  }
  if (!isUtf8(body)) {
    const detail = `Tensor '${shown(input.name)}': BYTES element 0 is not valid UTF-8`;
    throw refuse({ at: "", expected: "UTF-8 text", got: told("other bytes"), detail });
  }
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length, true);
  bytes.set(body, 4);
  return { shape: input.shape.map(() => 1), bytes };
}

function deduced(input: TensorSignature, body: Uint8Array): { shape: number[]; bytes: Uint8Array } {
  const shape = input.shape.slice();
  const dynamic = shape.filter((axis) => axis < 0).length;
  if (dynamic > 1 && shape[0]! < 0) shape[0] = 1;
  const open = shape.findIndex((axis) => axis < 0);
  if (open >= 0) {
    shape[open] = 1;
    if (shape.some((axis) => axis < 0)) {
      const detail = `The shape of the raw input '${shown(input.name)}' can not be deduced: more than one axis is dynamic`;
      throw refuse({
        at: "Inference-Header-Content-Length",
        expected: "a model with one dynamic axis",
        got: told(`[${input.shape}]`),
        detail,
      });
    }
  }
  const rowBytes = elementCount(shape) * elementBytes[input.datatype];
  if (open >= 0 && rowBytes > 0) shape[open] = Math.floor(body.length / rowBytes);
  const wanted = elementCount(shape) * elementBytes[input.datatype];
  if (wanted !== body.length) {
    const detail = `Raw input '${shown(input.name)}': ${input.datatype} [${input.shape}] cannot be made of ${body.length} bytes`;
    const expected = open >= 0 ? `a multiple of ${rowBytes} bytes` : `${wanted} bytes`;
    throw refuse({ at: "", expected, got: told(`${body.length} bytes`), detail });
  }
  return { shape, bytes: new Uint8Array(body.buffer, body.byteOffset, body.length) };
}
