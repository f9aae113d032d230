/** From a tool's arguments to tensors: nested arrays, bytes in base64, or files. Whatever comes, the outcome is tensors or a refusal that says what to send instead. */

import {
  bytesFromJson,
  checkInputs,
  checkTensorBytes,
  elementCount,
  encodeBytesElements,
  halfFromFloat,
  type InferRequest,
  imageTensor,
  type ModelVersion,
  SwitchyardError,
  type Tensor,
  type TensorSignature,
} from "@switchyard/protocol";
import { badRequest } from "../request-options.ts";
import { type PixelBudget, readPng } from "./png-pixels.ts";
import { takesImage, typeOf } from "./tensor-schemas.ts";

export interface GivenInputs {
  /** By input name. */
  values: Readonly<Record<string, unknown>>;
  /** Their JSON pointer among the arguments. */
  at: string;
  /** The same values with whole numbers beyond 2^53 as strings of digits, where they came as JSON. */
  exact?: () => Readonly<Record<string, unknown>> | undefined;
  /** That of the call, where it brings many. Absent: each image has its own bound only. */
  pixels?: PixelBudget;
}

/** Names of the model's inputs that are not there. */
export function missingInputs({ values }: GivenInputs, version: ModelVersion): TensorSignature[] {
  return version.signature.inputs.filter(({ name }) => !Object.hasOwn(values, name) || values[name] === undefined);
}

/** What the model is asked. Throws `invalid_request` and `signature_mismatch`, whose pointers are those of the arguments. Inputs must not be missing. */
export function requestOf(given: GivenInputs, version: ModelVersion): InferRequest {
  const inputs = tensorsOf(given, version);
  try {
    checkInputs(inputs, version.signature);
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    const fields = error.facts.fields?.map(({ pointer, ...field }) => ({
      ...field,
      pointer: pointer.replace(/^\/inputs\/(\d+)/, (_, at) => `${given.at}/${inputs[Number(at)]?.name}`),
    }));
    throw new SwitchyardError(error.code, error.message, { ...error.facts, ...(fields && { fields }) });
  }
  return { parameters: {}, inputs, binaryDefault: false };
}

/** Throws `invalid_request` and, for what is no input of the model, `signature_mismatch`. Inputs must not be missing. */
export function tensorsOf(given: GivenInputs, version: ModelVersion): Tensor[] {
  const { inputs } = version.signature;
  for (const name of Object.keys(given.values)) {
    if (inputs.some((input) => input.name === name)) continue;
    const expected = inputs.map((input) => input.name).join(", ");
    const detail = `model ${version.model} has no input ${JSON.stringify(name.slice(0, 64))}; its inputs are ${expected}`;
    throw new SwitchyardError("signature_mismatch", detail, {
      fields: [{ pointer: `${given.at}/${name.slice(0, 64)}`, expected, got: name.slice(0, 64) }],
    });
  }
  return inputs.map((input) => tensorOf(given, input, version));
}

function tensorOf(given: GivenInputs, input: TensorSignature, version: ModelVersion): Tensor {
  const at = `${given.at}/${input.name}`;
  const value = given.values[input.name];
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return nestedTensor(input, { value, at, exact: () => given.exact?.()?.[input.name] ?? value });
  }
  const file = value as Record<string, unknown>;
  if (typeof file.data === "string")
    return imageInput(version, { bytes: base64(file.data, `${at}/data`), type: file.mimeType, at, pixels: given.pixels });
  if (typeof file.uri === "string") return fromUri(file.uri, input, { at, version, pixels: given.pixels });
  if (typeof file.base64 === "string") {
    const tensor = {
      name: input.name,
      datatype: input.datatype,
      shape: shapeIn(file.shape, `${at}/shape`),
      bytes: base64(file.base64, `${at}/base64`),
    };
    checkTensorBytes(tensor, at);
    return tensor;
  }
  throw badRequest(at, formsOf(input, version), "an object without data, uri or base64");
}

function formsOf(input: TensorSignature, version: ModelVersion): string {
  const forms = [`${typeOf(input)} as nested arrays`, '{"base64": …, "shape": […]}'];
  if (takesImage(version)) forms.push('a PNG image as {"data": "<base64>", "mimeType": "image/png"}');
  return forms.join(", or ");
}

interface Nested {
  value: unknown;
  at: string;
  exact(): unknown;
}

function nestedTensor(input: TensorSignature, { at, exact, value }: Nested): Tensor {
  const { datatype, name } = input;
  const shape = lengthsOf(value);
  if (shape.length !== input.shape.length && !shape.includes(0)) {
    const expected = `${typeOf(input)}: ${input.shape.length} levels of arrays, one for each axis`;
    throw badRequest(at, expected, `${shape.length} levels`);
  }
  for (let axis = shape.length; axis < input.shape.length; axis++) shape.push(Math.max(0, input.shape[axis]!));
  const source = { name, at, shape, count: elementCount(shape), data: value, exactData: exact };
  if (datatype !== "FP16") return { name, datatype, shape, bytes: bytesFromJson({ ...source, datatype }) };
  const floats = new Float32Array(bytesFromJson({ ...source, datatype: "FP32" }).slice().buffer);
  return { name, datatype, shape, bytes: new Uint8Array(Uint16Array.from(floats, halfFromFloat).buffer) };
}

function lengthsOf(value: unknown): number[] {
  const lengths: number[] = [];
  for (let node = value; Array.isArray(node); node = node[0]) lengths.push(node.length);
  return lengths;
}

interface UriFor {
  at: string;
  version: ModelVersion;
  pixels: PixelBudget | undefined;
}

function fromUri(uri: string, input: TensorSignature, { at, pixels, version }: UriFor): Tensor {
  const [, type = "", isBase64, data = ""] = /^data:([^;,]*)(?:;charset=[^;,]*)?(;base64)?,(.*)$/s.exec(uri) ?? [];
  if (!uri.startsWith("data:") || data === "") {
    throw badRequest(
      `${at}/uri`,
      "a data: URI with the file in it; other addresses are not fetched, so read the file and send its bytes",
      uri,
    );
  }
  const bytes = isBase64 ? base64(data, `${at}/uri`) : Buffer.from(decoded(data, `${at}/uri`));
  if (input.datatype === "BYTES") return textInput(input, bytes, at);
  return imageInput(version, { bytes, type, at, pixels });
}

function textInput(input: TensorSignature, bytes: Buffer, at: string): Tensor {
  const text = bytes.toString("utf8");
  if (text.includes("\uFFFD")) throw badRequest(`${at}/uri`, "text in UTF-8", `${bytes.length} other bytes`);
  const shape = input.shape.map((axis) => (axis < 0 ? 1 : axis));
  if (elementCount(shape) !== 1) throw badRequest(at, `${typeOf(input)}, of which a file is one element`, "one file");
  return { name: input.name, datatype: "BYTES", shape, bytes: encodeBytesElements([text]) };
}

interface ImageFile {
  bytes: Uint8Array;
  type: unknown;
  at: string;
  pixels: PixelBudget | undefined;
}

function imageInput(version: ModelVersion, { at, bytes, pixels, type }: ImageFile): Tensor {
  if (type !== "image/png") throw badRequest(`${at}/mimeType`, "image/png: convert other images first", type);
  const made = imageTensor(readPng(bytes, at, pixels), { model: version.model, inputs: version.signature.inputs, config: version.config });
  const { byteOffset, byteLength, buffer } = made.data;
  return { name: made.name, datatype: "FP32", shape: made.shape, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
}

function shapeIn(value: unknown, at: string): number[] {
  if (Array.isArray(value) && value.length <= 64 && value.every((axis) => Number.isSafeInteger(axis) && axis >= 0)) return value;
  throw badRequest(at, "an array of whole numbers", value);
}

/** Node's own decoder passes over what it does not understand. */
function base64(text: string, at: string): Buffer {
  const plain = text.replaceAll(/\s+/g, "");
  if (/^[A-Za-z0-9+/_-]*={0,2}$/.test(plain) && plain.replace(/=+$/, "").length % 4 !== 1) return Buffer.from(plain, "base64");
  throw badRequest(at, "base64", text.slice(0, 32));
}

function decoded(text: string, at: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw badRequest(at, "percent-encoded text", text.slice(0, 32));
  }
}
