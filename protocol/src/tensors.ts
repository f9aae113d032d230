/**
 * Tensors as they travel: a name, a datatype, a shape and raw bytes (little-endian, row-major, no padding).
 * BYTES elements are each a uint32 length followed by that many bytes, as in the Open Inference Protocol.
 */

/** Bytes per element; 0 for BYTES, whose elements differ in length. */
export const elementBytes = {
  BOOL: 1,
  UINT8: 1,
  UINT16: 2,
  UINT32: 4,
  UINT64: 8,
  INT8: 1,
  INT16: 2,
  INT32: 4,
  INT64: 8,
  FP16: 2,
  FP32: 4,
  FP64: 8,
  BYTES: 0,
} as const satisfies Record<string, number>;

export type Datatype = keyof typeof elementBytes;

export function isDatatype(word: string): word is Datatype {
  return Object.hasOwn(elementBytes, word);
}

export interface Tensor {
  name: string;
  datatype: Datatype;
  /** Whole shape, batch axis included; every entry is an integer ≥ 0. */
  shape: number[];
  bytes: Uint8Array;
}

/** Elements in a tensor of this shape; 1 for a scalar, NaN when the product leaves the safe integers. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const axis of shape) {
    count *= axis;
    if (!Number.isSafeInteger(count)) return Number.NaN;
  }
  return count;
}
