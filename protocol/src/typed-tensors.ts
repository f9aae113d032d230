/** Tensors from and to what JavaScript programs hold: typed arrays, numbers, booleans, bigints and strings. */

import { decodeBytesStrings, encodeBytesElements } from "./bytes-elements.ts";
import { SwitchyardError } from "./errors.ts";
import { alignedView } from "./tensor-frame.ts";
import { type Datatype, elementBytes, elementCount, type Tensor } from "./tensors.ts";

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

export type TensorData = TypedArray | readonly (number | bigint)[] | readonly boolean[] | readonly string[];

type ArrayMaker = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => TypedArray;

/** BOOL is a byte of 0 or 1; FP16 is the 2-byte word, see `floatFromHalf` and `halfFromFloat`. */
const arrayOf: Record<Exclude<Datatype, "BYTES">, ArrayMaker> = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
  UINT64: BigUint64Array,
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  INT64: BigInt64Array,
  FP16: Uint16Array,
  FP32: Float32Array,
  FP64: Float64Array,
};

/**
 * A tensor over `data`; typed arrays are not copied. The shape is `[data.length]` unless given. The datatype follows from the data:
 * number[] is FP32, bigint[] INT64, boolean[] BOOL, string[] BYTES, typed arrays their own. Give `datatype` for another (FP16 words
 * in a Uint16Array, INT32 from number[]). Throws `invalid_request` when data, shape and datatype do not fit.
 */
export function tensor(
  name: string,
  data: TensorData,
  shape: readonly number[] = [data.length],
  datatype: Datatype = datatypeOf(data),
): Tensor {
  for (const axis of shape) if (!Number.isSafeInteger(axis) || axis < 0) throw unfit(name, `axis size ${axis} is not a whole number ≥ 0`);
  const bytes = ArrayBuffer.isView(data) ? bytesOfView(name, data, datatype) : bytesOfList(name, data, datatype);
  const count = elementCount(shape);
  if (count !== data.length) throw unfit(name, `shape [${shape}] has ${count} elements, the data ${data.length}`);
  return { name, datatype, shape: [...shape], bytes };
}

function datatypeOf(data: TensorData): Datatype {
  if (data instanceof Uint8ClampedArray) return "UINT8";
  if (ArrayBuffer.isView(data)) {
    for (const datatype of ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"] as const) {
      if (data instanceof arrayOf[datatype]) return datatype;
    }
  }
  switch (typeof data[0]) {
    case "string":
      return "BYTES";
    case "boolean":
      return "BOOL";
    case "bigint":
      return "INT64";
    default:
      return "FP32";
  }
}

function bytesOfView(name: string, data: TypedArray, datatype: Datatype): Uint8Array {
  const fits = datatype !== "BYTES" && (data instanceof arrayOf[datatype] || (datatype === "UINT8" && data instanceof Uint8ClampedArray));
  if (!fits) throw unfit(name, `a ${data.constructor.name} does not hold ${datatype}`);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function bytesOfList(name: string, data: Exclude<TensorData, TypedArray>, datatype: Datatype): Uint8Array {
  if (datatype === "BYTES") {
    for (const value of data) if (typeof value !== "string" || !value.isWellFormed()) throw unfit(name, "BYTES takes well-formed strings");
    return encodeBytesElements(data as readonly string[]);
  }
  const array = new arrayOf[datatype](new ArrayBuffer(data.length * elementBytes[datatype]), 0, data.length);
  for (const [index, value] of data.entries()) {
    const element = elementFor(datatype, value);
    if (element !== undefined) array[index] = element as never;
    // An array that kept something else cannot hold the value; floats are rounded on purpose.
    const isRounded = datatype === "FP32" || datatype === "FP64";
    if (element === undefined || !(isRounded || array[index] === element)) {
      throw unfit(name, `element ${index} (${String(value)}) does not fit ${datatype}`);
    }
  }
  return new Uint8Array(array.buffer, 0, array.byteLength);
}

/** What the typed array of this datatype takes; undefined where the value is of another kind. */
function elementFor(datatype: Datatype, value: unknown): number | bigint | undefined {
  switch (datatype) {
    case "BOOL":
      return value === true || value === 1 ? 1 : value === false || value === 0 ? 0 : undefined;
    case "INT64":
    case "UINT64":
      if (typeof value === "bigint") return value;
      return Number.isSafeInteger(value) ? BigInt(value as number) : undefined;
    default:
      return typeof value === "number" ? value : undefined;
  }
}

/** The elements as a typed array over the tensor's bytes (a copy only if they are unaligned). Throws `invalid_request` for BYTES. */
export function toTypedArray(source: Tensor): TypedArray {
  if (source.datatype === "BYTES") throw unfit(source.name, "BYTES has no typed array, use toStrings");
  const width = elementBytes[source.datatype];
  const view = alignedView(source.bytes, width);
  return new arrayOf[source.datatype](view.buffer, view.byteOffset, view.byteLength / width);
}

/** The elements of a BYTES tensor as text. Throws `invalid_request` when it is of another datatype or not UTF-8. */
export function toStrings(source: Tensor): string[] {
  if (source.datatype !== "BYTES") throw unfit(source.name, `${source.datatype} holds no strings, use toTypedArray`);
  return decodeBytesStrings(source.bytes);
}

/** The value of an IEEE 754 half-precision word. */
export function floatFromHalf(word: number): number {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 0x1f;
  const fraction = word & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** The nearest half-precision word, ties to even. */
export function halfFromFloat(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65_520) return sign | 0x7c00;
  const exponent = size < 2 ** -14 ? -14 : exponentOf(size);
  const steps = size / 2 ** (exponent - 10);
  const whole = Math.floor(steps);
  const rest = steps - whole;
  const rounded = whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0);
  // A subnormal has the biased exponent 0, and a carry out of the fraction runs into the exponent by itself.
  return sign | (size < 2 ** -14 ? rounded : ((exponent + 14) << 10) + rounded);
}

function exponentOf(size: number): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, size);
  return ((view.getUint16(0) >> 4) & 0x7ff) - 1023;
}

function unfit(name: string, why: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `Tensor '${name}': ${why}`, {
    fields: [{ pointer: `/inputs/${name}`, expected: "fitting data", got: why }],
  });
}
