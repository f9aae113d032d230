/**
 * Tensor data as JSON: arrays, flat or nested, to little-endian bytes and back. Counts are compared before anything is allocated by
 * shape. Typed arrays are laid over the bytes as they are, so this runs on little-endian machines, as everything that runs Node does.
 */

import { decodeBytesStrings, encodeBytesElements } from "./bytes-elements.ts";
import { SwitchyardError } from "./errors.ts";
import { describe, refuse, shown, told } from "./request-fault.ts";
import { alignedView } from "./tensor-frame.ts";
import type { Datatype, Tensor } from "./tensors.ts";

export interface JsonTensorData {
  name: string;
  /** JSON pointer of the tensor. */
  at: string;
  datatype: Datatype;
  shape: readonly number[];
  /** Elements that the shape asks for. */
  count: number;
  data: unknown;
  /** The same data with long whole numbers as strings of digits; asked only if numbers beyond 2^53 came. */
  exactData(): unknown;
}

/** Throws `invalid_request` that names the tensor and, where one element is wrong, its index. */
export function bytesFromJson(source: JsonTensorData): Uint8Array {
  const values = elementsOf(source, source.data);
  switch (source.datatype) {
    case "FP32":
      return readFloats(source, values, new Float32Array(source.count));
    case "FP64":
      return readFloats(source, values, new Float64Array(source.count));
    case "INT8":
      return readIntegers(source, values, new Int8Array(source.count), -128, 127);
    case "INT16":
      return readIntegers(source, values, new Int16Array(source.count), -32_768, 32_767);
    case "INT32":
      return readIntegers(source, values, new Int32Array(source.count), -2_147_483_648, 2_147_483_647);
    case "UINT8":
      return readIntegers(source, values, new Uint8Array(source.count), 0, 255);
    case "UINT16":
      return readIntegers(source, values, new Uint16Array(source.count), 0, 65_535);
    case "UINT32":
      return readIntegers(source, values, new Uint32Array(source.count), 0, 4_294_967_295);
    case "INT64":
      return readLongs(source, values, -(2n ** 63n), 2n ** 63n - 1n);
    case "UINT64":
      return readLongs(source, values, 0n, 2n ** 64n - 1n);
    case "BOOL":
      return readBooleans(source, values);
    case "BYTES":
      return readStrings(source, values);
    case "FP16":
      throw refuse({
        at: `${source.at}/data`,
        expected: "binary tensor data",
        got: source.data,
        detail: `Tensor '${shown(source.name)}': FP16 has no JSON form, use binary tensor data (binary_data_size)`,
      });
  }
}

/** The elements in row-major order: the array itself when it is flat. */
function elementsOf(source: JsonTensorData, data: unknown): readonly unknown[] {
  const values = flatten(source, data);
  if (values.length !== source.count) {
    throw refuse({
      at: `${source.at}/data`,
      expected: `${source.count} elements for shape [${source.shape}]`,
      got: told(`${values.length} elements`),
      detail: `Tensor '${shown(source.name)}': shape [${source.shape}] has ${source.count} elements, data has ${values.length}`,
    });
  }
  return values;
}

function flatten(source: JsonTensorData, data: unknown): readonly unknown[] {
  if (!Array.isArray(data)) {
    if (source.shape.length === 0 && typeof data !== "object") return [data];
    throw refuse({
      at: `${source.at}/data`,
      expected: "an array",
      got: data,
      detail: `Tensor '${shown(source.name)}': data must be an array`,
    });
  }
  if (!Array.isArray(data[0])) return data;
  const lengths: number[] = [];
  for (let node: unknown = data; Array.isArray(node); node = node[0]) lengths.push(node.length);
  const values: unknown[] = [];
  if (!gather(data, lengths, 0, values) || !nestsAs(lengths, source.shape)) {
    throw refuse({
      at: `${source.at}/data`,
      expected: `flat data, or data nested as [${source.shape}]`,
      got: told(`data nested as [${lengths}]${nestsAs(lengths, source.shape) ? ", unevenly" : ""}`),
      detail: `Tensor '${shown(source.name)}': data is neither flat nor nested as its shape [${source.shape}]`,
    });
  }
  return values;
}

/** Collects leaves; false when siblings differ in length or kind. Depth is bounded by the limit on the JSON text. */
function gather(node: readonly unknown[], lengths: readonly number[], depth: number, into: unknown[]): boolean {
  if (node.length !== lengths[depth]) return false;
  const isInnermost = depth === lengths.length - 1;
  for (const child of node) {
    if (isInnermost) {
      if (Array.isArray(child)) return false;
      into.push(child);
    } else if (!Array.isArray(child) || !gather(child, lengths, depth + 1, into)) return false;
  }
  return true;
}

/** Whether nesting follows the shape, where neighbouring axes may be written as one and axes of 1 in any number. */
function nestsAs(lengths: readonly number[], shape: readonly number[]): boolean {
  if (shape.includes(0)) return true;
  let axis = 0;
  for (const length of lengths) {
    let product = 1;
    while (product < length && axis < shape.length) product *= shape[axis++]!;
    if (product !== length && length !== 0) return false;
  }
  return true;
}

function badElement(source: JsonTensorData, index: number, value: unknown, expected: string): SwitchyardError {
  const detail = `Tensor '${shown(source.name)}': element ${index} must be ${expected}, got ${describe(value)}`;
  return refuse({ at: `${source.at}/data/${index}`, expected, got: value, detail });
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function readFloats(source: JsonTensorData, values: readonly unknown[], into: Float32Array | Float64Array): Uint8Array {
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (typeof value !== "number") throw badElement(source, index, value, "a number");
    into[index] = value;
    if (!Number.isFinite(into[index])) throw badElement(source, index, value, `a finite ${source.datatype} number (others only as binary)`);
  }
  return bytesOf(into);
}

type IntegerArray = Int8Array | Int16Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

function readIntegers(source: JsonTensorData, values: readonly unknown[], into: IntegerArray, min: number, max: number): Uint8Array {
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
      throw badElement(source, index, value, `a whole number from ${min} to ${max}`);
    }
    into[index] = value as number;
  }
  return bytesOf(into);
}

/** Longest literal that fits INT64 or UINT64; a longer one is not even converted. */
const maxLongChars = 20;

function readLongs(source: JsonTensorData, values: readonly unknown[], min: bigint, max: bigint): Uint8Array {
  const halves = new Int32Array(2 * values.length);
  const whole = new BigInt64Array(halves.buffer);
  const expected = `a whole number from ${min} to ${max}`;
  let exact: readonly unknown[] | undefined;
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (typeof value !== "number") throw badElement(source, index, value, expected);
    if (Number.isSafeInteger(value)) {
      if (value < 0 && min === 0n) throw badElement(source, index, value, expected);
      halves[2 * index] = value; // ToInt32 keeps the low 32 bits
      halves[2 * index + 1] = Math.floor(value / 2 ** 32);
      continue;
    }
    exact ??= elementsOf(source, source.exactData());
    const digits = exact[index];
    const long = typeof digits === "string" && digits.length <= maxLongChars ? BigInt(digits) : undefined;
    if (long === undefined || long < min || long > max) throw badElement(source, index, value, expected);
    whole[index] = long;
  }
  return bytesOf(halves);
}

function readBooleans(source: JsonTensorData, values: readonly unknown[]): Uint8Array {
  const into = new Uint8Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (value === true || value === 1) into[index] = 1;
    else if (value !== false && value !== 0) throw badElement(source, index, value, "true, false, 1 or 0");
  }
  return into;
}

function readStrings(source: JsonTensorData, values: readonly unknown[]): Uint8Array {
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (typeof value !== "string") throw badElement(source, index, value, "a string");
    if (!value.isWellFormed()) throw badElement(source, index, value, "well-formed Unicode text");
  }
  return encodeBytesElements(values as readonly string[]);
}

/** The data of a tensor as flat JSON text. Throws `invalid_request` for what JSON cannot say, advising binary. */
export function jsonFromTensor(tensor: Tensor, at: string): string {
  switch (tensor.datatype) {
    case "FP32":
      return floatsToJson(tensor, at, new Float32Array(...over(tensor.bytes, 4)));
    case "FP64":
      return floatsToJson(tensor, at, new Float64Array(...over(tensor.bytes, 8)));
    case "INT8":
      return `[${new Int8Array(...over(tensor.bytes, 1)).join(",")}]`;
    case "INT16":
      return `[${new Int16Array(...over(tensor.bytes, 2)).join(",")}]`;
    case "INT32":
      return `[${new Int32Array(...over(tensor.bytes, 4)).join(",")}]`;
    case "UINT8":
      return `[${new Uint8Array(...over(tensor.bytes, 1)).join(",")}]`;
    case "UINT16":
      return `[${new Uint16Array(...over(tensor.bytes, 2)).join(",")}]`;
    case "UINT32":
      return `[${new Uint32Array(...over(tensor.bytes, 4)).join(",")}]`;
    case "INT64":
      return `[${new BigInt64Array(...over(tensor.bytes, 8)).join(",")}]`;
    case "UINT64":
      return `[${new BigUint64Array(...over(tensor.bytes, 8)).join(",")}]`;
    case "BOOL":
      return `[${Array.from(tensor.bytes, (byte) => byte !== 0).join(",")}]`;
    case "BYTES":
      return stringsToJson(tensor, at);
    case "FP16":
      throw notJson(tensor, at, "FP16 has no JSON form");
  }
}

function over(bytes: Uint8Array, width: number): [ArrayBufferLike, number, number] {
  const view = alignedView(bytes, width);
  return [view.buffer, view.byteOffset, view.byteLength / width];
}

function floatsToJson(tensor: Tensor, at: string, values: Float32Array | Float64Array): string {
  let hasNegativeZero = false;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (!Number.isFinite(value)) throw notJson(tensor, at, `element ${index} is ${value}, which JSON cannot say`);
    if (value === 0 && Object.is(value, -0)) hasNegativeZero = true;
  }
  if (!hasNegativeZero) return `[${values.join(",")}]`;
  return `[${Array.from(values, (value) => (Object.is(value, -0) ? "-0" : String(value))).join(",")}]`;
}

function stringsToJson(tensor: Tensor, at: string): string {
  try {
    return JSON.stringify(decodeBytesStrings(tensor.bytes));
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    throw notJson(tensor, at, error.message);
  }
}

function notJson(tensor: Tensor, at: string, why: string): SwitchyardError {
  const detail = `Tensor '${shown(tensor.name)}': ${why}; use binary tensor data (binary_data, or binary_data_output for all)`;
  return refuse({ at, expected: "values that JSON can say", got: told(why), detail });
}
