/**
 * An inference request of the Open Inference Protocol, from a body in JSON, binary or mixed form to tensors. Tensors that came as
 * binary are views on the body. Whatever the bytes are, the outcome is a request or a SwitchyardError `invalid_request`; nothing is
 * allocated by what a shape claims before the data that came has been counted. Checks are written by hand: this is the hot path.
 */

import { scanBytesElements } from "./bytes-elements.ts";
import { familiarKey, familiarRequest, keepHead } from "./familiar-heads.ts";
import { type JsonDocument, parseJson } from "./json-text.ts";
import { pointerSegment, refuse, shown, told } from "./request-fault.ts";
import { bytesFromJson } from "./tensor-json.ts";
import { type Datatype, elementBytes, elementCount, isDatatype, type Tensor } from "./tensors.ts";

export type Parameters = Record<string, string | number | boolean>;

export interface RequestedOutput {
  name: string;
  /** Undefined: as `binaryDefault` says. */
  binary?: boolean;
  /** Top k classes instead of values. */
  classification?: number;
}

export interface InferRequest {
  /** Absent when empty. */
  id?: string;
  parameters: Parameters;
  inputs: Tensor[];
  /** In the order asked; absent when the client wants all. */
  outputs?: RequestedOutput[];
  /** Parameter `binary_data_output`: outputs that say nothing of their own come back as binary. */
  binaryDefault: boolean;
}

export interface InferBody {
  body: Uint8Array;
  /** Value of Inference-Header-Content-Length: bytes of JSON at the start of the body; absent when all of it is JSON. */
  headerLength?: number | undefined;
  /** Levels of nesting that the JSON may have. */
  maxDepth?: number | undefined;
}

export const maxRank = 64;
/** The client's id is kept with the job's record. */
export const maxIdChars = 256;

/** Throws `invalid_request` with `facts.fields`. A header length of 0 is a raw request: see `decodeRawRequest`. */
export function decodeInferRequest(source: InferBody): InferRequest {
  const { body, headerLength } = source;
  const isSplit = headerLength !== undefined && headerLength > 0 && headerLength < body.length && source.maxDepth === undefined;
  const key = isSplit ? familiarKey(body.subarray(0, headerLength)) : undefined;
  const known = key === undefined ? undefined : familiarRequest(key, body.subarray(headerLength));
  if (known !== undefined) return known;
  const { header, document, rest } = openBody(source);
  const request = readInferRequest(header, document, rest);
  if (key !== undefined && rest !== undefined) keepHead(key, request, rest);
  return request;
}

/** The JSON part as an object, and the bytes after it (undefined when there is no length header). */
export function openBody(source: InferBody): { header: Record<string, unknown>; document: JsonDocument; rest: Uint8Array | undefined } {
  const { body, headerLength } = source;
  if (headerLength !== undefined && !(Number.isSafeInteger(headerLength) && headerLength > 0 && headerLength <= body.length)) {
    throw refuse({
      at: "Inference-Header-Content-Length",
      expected: `a number from 1 to ${body.length}, the size of the body`,
      got: headerLength,
      detail: `Inference-Header-Content-Length must be from 1 to ${body.length}, the size of the body; got ${headerLength}`,
    });
  }
  const json = headerLength === undefined ? body : body.subarray(0, headerLength);
  const document = parseJson(json, source.maxDepth ?? 100);
  return {
    header: asObject(document.value, "", "The request"),
    document,
    rest: headerLength === undefined ? undefined : body.subarray(headerLength),
  };
}

/** Reads the protocol's own fields from a parsed request; fields it does not know are left alone, and optional ones may be null. */
export function readInferRequest(header: Record<string, unknown>, document: JsonDocument, rest: Uint8Array | undefined): InferRequest {
  return requestOf(header, () => readTensors("inputs", document, rest));
}

/** A request of the header's parameters, outputs and id, which are checked, and of tensors that are read after the parameters. */
export function requestOf(header: Record<string, unknown>, readInputs: () => Tensor[]): InferRequest {
  const parameters = readParameters(header.parameters, "/parameters");
  const inputs = readInputs();
  const request: InferRequest = {
    parameters,
    inputs,
    binaryDefault: readFlag(parameters.binary_data_output, "/parameters/binary_data_output") ?? false,
  };
  const outputs = readOutputs(header.outputs);
  if (outputs !== undefined) request.outputs = outputs;
  const id = readId(header.id);
  if (id) request.id = id;
  return request;
}

function readId(id: unknown): string | undefined {
  if (id === undefined || id === null) return undefined;
  const expected = `a string of at most ${maxIdChars} characters`;
  if (typeof id !== "string") throw refuse({ at: "/id", expected, got: id, detail: "id must be a string" });
  if (id.length <= maxIdChars) return id;
  throw refuse({ at: "/id", expected, got: told(`${id.length} characters`), detail: `id must be ${expected}, got ${id.length}` });
}

export function asObject(value: unknown, at: string, what: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw refuse({ at, expected: "an object", got: value, detail: `${what} must be a JSON object` });
}

/** The client's own object, checked in place: copying would lose a key such as `__proto__`. */
function readParameters(value: unknown, at: string): Parameters {
  if (value === undefined || value === null) return {};
  const parameters = asObject(value, at, "parameters");
  for (const key of Object.keys(parameters)) {
    const entry = parameters[key];
    const pointer = `${at}/${pointerSegment(key)}`;
    if (key.startsWith("triton_")) {
      const detail = `parameter '${shown(key)}': keys that begin with 'triton_' are reserved`;
      throw refuse({ at: pointer, expected: "a key without the prefix triton_", got: key, detail });
    }
    if (typeof entry !== "string" && typeof entry !== "boolean" && !Number.isFinite(entry)) {
      const detail = `parameter '${shown(key)}' must be a string, a number or a boolean`;
      throw refuse({ at: pointer, expected: "a string, a number or a boolean", got: entry, detail });
    }
  }
  return parameters as Parameters;
}

function readFlag(value: unknown, at: string): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw refuse({ at, expected: "true or false", got: value, detail: `${at} must be true or false` });
}

/** The tensors under `field` of a parsed body, binary ones as views on `rest`, which they must use up. */
export function readTensors(field: "inputs" | "outputs", document: JsonDocument, rest: Uint8Array | undefined): Tensor[] {
  const value = (document.value as Record<string, unknown>)[field];
  if (!Array.isArray(value)) {
    throw refuse({ at: `/${field}`, expected: "an array of tensors", got: value, detail: `${field} must be an array` });
  }
  const tensors: Tensor[] = [];
  const names = new Set<string>();
  let used = 0;
  for (let index = 0; index < value.length; index++) {
    const at = `/${field}/${index}`;
    const head = readTensorHead(value[index], at);
    addName(names, head.name, { what: field.slice(0, -1), at });
    const tensor = readTensorData(head, at, { rest, from: used, exactData: () => exactData(document, field, index) });
    if (head.binarySize !== undefined) used += head.binarySize;
    tensors.push(tensor);
  }
  if (rest !== undefined && used !== rest.length) {
    const detail = `unexpected additional input data for model: binary tensors take ${used} bytes, ${rest.length} follow the JSON`;
    throw refuse({ at: `/${field}`, expected: `${used} bytes after the JSON`, got: told(`${rest.length} bytes`), detail });
  }
  return tensors;
}

/** Throws when the name was there before. */
export function addName(names: Set<string>, name: string, of: { what: string; at: string }): void {
  if (names.has(name)) {
    const detail = `${of.what} '${shown(name)}' already exists in request`;
    throw refuse({ at: `${of.at}/name`, expected: "a name of its own", got: name, detail });
  }
  names.add(name);
}

function exactData(document: JsonDocument, field: "inputs" | "outputs", index: number): unknown {
  return (document.exact() as Record<typeof field, { data: unknown }[]>)[field][index]!.data;
}

/** What a request says of a tensor beside its elements. */
export interface TensorHead {
  name: string;
  datatype: Datatype;
  shape: number[];
  /** Elements that the shape asks for. */
  count: number;
  data: unknown;
  binarySize: number | undefined;
}

/** `value` is the tensor's entry, `at` its pointer. */
export function readTensorHead(value: unknown, at: string): TensorHead {
  const entry = asObject(value, at, "A tensor");
  const name = readName(entry.name, at);
  const datatype = entry.datatype;
  if (typeof datatype !== "string" || !isDatatype(datatype)) {
    const detail = `Tensor '${shown(name)}': datatype must be one of ${Object.keys(elementBytes).join(", ")}`;
    throw refuse({ at: `${at}/datatype`, expected: Object.keys(elementBytes).join(", "), got: datatype, detail });
  }
  const shape = readShape(entry.shape, name, at);
  const count = elementCount(shape);
  if (Number.isNaN(count) || !Number.isSafeInteger(count * elementBytes[datatype])) {
    const detail = `byte size overflow for input '${shown(name)}': shape [${shape}] of ${datatype}`;
    throw refuse({ at: `${at}/shape`, expected: "a shape whose bytes can be counted", got: told(`[${shape}]`), detail });
  }
  const binarySize = entry.parameters === undefined ? undefined : readBinarySize(entry.parameters, name, at);
  return { name, datatype, shape, count, data: entry.data, binarySize };
}

function readName(name: unknown, at: string): string {
  if (typeof name === "string" && name !== "") return name;
  throw refuse({ at: `${at}/name`, expected: "a name", got: name, detail: `${at}/name must be a non-empty string` });
}

function readShape(shape: unknown, name: string, at: string): number[] {
  if (!Array.isArray(shape) || shape.length > maxRank) {
    const detail = `Tensor '${shown(name)}': shape must be an array of at most ${maxRank} whole numbers`;
    throw refuse({ at: `${at}/shape`, expected: `an array of at most ${maxRank} whole numbers`, got: shape, detail });
  }
  for (let axis = 0; axis < shape.length; axis++) {
    if (!Number.isSafeInteger(shape[axis]) || shape[axis] < 0) {
      const detail = `Tensor '${shown(name)}': axis ${axis} of its shape must be a whole number of 0 or more`;
      throw refuse({ at: `${at}/shape/${axis}`, expected: "a whole number ≥ 0", got: shape[axis], detail });
    }
  }
  return shape;
}

function readBinarySize(value: unknown, name: string, at: string): number | undefined {
  const parameters = readParameters(value, `${at}/parameters`);
  if (Object.hasOwn(parameters, "shared_memory_region")) throw sharedMemory(name, at);
  const size = parameters.binary_data_size;
  if (size === undefined || (Number.isSafeInteger(size) && (size as number) >= 0)) return size as number | undefined;
  const detail = `Tensor '${shown(name)}': binary_data_size must be a whole number of bytes`;
  throw refuse({ at: `${at}/parameters/binary_data_size`, expected: "a whole number ≥ 0", got: size, detail });
}

function sharedMemory(name: string, at: string) {
  const detail = `'${shown(name)}': shared memory is not supported, send the data in the body`;
  return refuse({ at: `${at}/parameters/shared_memory_region`, expected: "data in the body", got: told("a shared memory region"), detail });
}

function readTensorData(
  head: TensorHead,
  at: string,
  source: { rest: Uint8Array | undefined; from: number; exactData(): unknown },
): Tensor {
  const { name, datatype, shape, binarySize } = head;
  if ((binarySize === undefined) === (head.data === undefined)) {
    const came = binarySize === undefined ? "neither" : "both";
    const detail = `Tensor '${shown(name)}' must have either data or parameters.binary_data_size, it has ${came}`;
    throw refuse({ at, expected: "data or parameters.binary_data_size", got: told(came), detail });
  }
  if (binarySize === undefined) return { name, datatype, shape, bytes: bytesFromJson({ ...head, at, exactData: source.exactData }) };
  const left = source.rest === undefined ? 0 : source.rest.length - source.from;
  if (binarySize > left) {
    const where =
      source.rest === undefined ? "there is no Inference-Header-Content-Length header" : `only ${left} bytes are left in the body`;
    const detail = `Tensor '${shown(name)}': binary_data_size is ${binarySize}, but ${where}`;
    throw refuse({ at: `${at}/parameters/binary_data_size`, expected: `at most ${left}`, got: binarySize, detail });
  }
  const from = source.rest === undefined ? 0 : source.rest.byteOffset + source.from;
  const bytes = source.rest === undefined ? new Uint8Array(0) : new Uint8Array(source.rest.buffer, from, binarySize);
  const tensor = { name, datatype, shape, bytes };
  checkTensorBytes(tensor, at);
  return tensor;
}

/** Whether a tensor's bytes are what its shape asks for, and, for BYTES, whole elements of UTF-8. Throws `invalid_request`. */
export function checkTensorBytes(tensor: Tensor, at: string): void {
  const { name, datatype, shape, bytes } = tensor;
  const count = elementCount(shape);
  const width = elementBytes[datatype];
  if (width > 0) {
    if (bytes.length === count * width) return;
    const detail = `Tensor '${shown(name)}': ${datatype} [${shape}] takes ${count * width} bytes, got ${bytes.length}`;
    throw refuse({ at, expected: `${count * width} bytes`, got: told(`${bytes.length} bytes`), detail });
  }
  const scan = scanBytesElements(bytes);
  if (scan.fault !== undefined) {
    const why = scan.fault.kind === "truncated" ? "runs past the end of its tensor" : "is not valid UTF-8";
    const detail = `Tensor '${shown(name)}': BYTES element ${scan.fault.index} ${why}`;
    throw refuse({ at, expected: "length-prefixed UTF-8 elements", got: told(`element ${scan.fault.index} ${why}`), detail });
  }
  if (scan.count !== count) {
    const detail = `Tensor '${shown(name)}': BYTES [${shape}] has ${count} elements, got ${scan.count}`;
    throw refuse({ at, expected: `${count} elements`, got: told(`${scan.count} elements`), detail });
  }
}

function readOutputs(value: unknown): RequestedOutput[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw refuse({ at: "/outputs", expected: "an array", got: value, detail: "outputs must be an array" });
  const names = new Set<string>();
  const outputs = value.map((entry: unknown, index) => {
    const output = readOutput(entry, `/outputs/${index}`);
    addName(names, output.name, { what: "output", at: `/outputs/${index}` });
    return output;
  });
  return outputs.length === 0 ? undefined : outputs;
}

function readOutput(value: unknown, at: string): RequestedOutput {
  const entry = asObject(value, at, "An output");
  const output: RequestedOutput = { name: readName(entry.name, at) };
  const parameters = readParameters(entry.parameters, `${at}/parameters`);
  if (Object.hasOwn(parameters, "shared_memory_region")) throw sharedMemory(output.name, at);
  const binary = readFlag(parameters.binary_data, `${at}/parameters/binary_data`);
  if (binary !== undefined) output.binary = binary;
  const classes = parameters.classification;
  if (classes !== undefined) {
    if (!Number.isSafeInteger(classes) || (classes as number) < 0) {
      const detail = `Output '${shown(output.name)}': classification must be a whole number of classes`;
      throw refuse({ at: `${at}/parameters/classification`, expected: "a whole number ≥ 0", got: classes, detail });
    }
    if (classes !== 0) output.classification = classes as number; // 0 is the stock client's way to say no classification
  }
  return output;
}
