/**
 * Tensor elements in the typed fields of `InferTensorContents`, to the tensor's bytes and back. Packed floats are the bytes as they lie and
 * are not copied; whole numbers are read from their varints into the words of the datatype. No element becomes a JavaScript value of its own.
 */

import protobuf from "protobufjs/minimal.js";
import type { SwitchyardError } from "../errors.ts";
import type { TensorHead } from "../infer-request.ts";
import { refuse, shown, told } from "../request-fault.ts";
import { alignedView } from "../tensor-frame.ts";
import { type Datatype, elementBytes, type Tensor } from "../tensors.ts";
import { countVarints, readVarint, varint, varintBytes, writeVarint } from "./varints.ts";

interface Field {
  name: string;
  number: number;
  /** Wire type of one element. */
  wire: 0 | 1 | 2 | 5;
}

const bools: Field = { name: "bool_contents", number: 1, wire: 0 };
const ints: Field = { name: "int_contents", number: 2, wire: 0 };
const uints: Field = { name: "uint_contents", number: 4, wire: 0 };

const fields: Record<Exclude<Datatype, "FP16">, Field> = {
  BOOL: bools,
  INT8: ints,
  INT16: ints,
  INT32: ints,
  INT64: { name: "int64_contents", number: 3, wire: 0 },
  UINT8: uints,
  UINT16: uints,
  UINT32: uints,
  UINT64: { name: "uint64_contents", number: 5, wire: 0 },
  FP32: { name: "fp32_contents", number: 6, wire: 5 },
  FP64: { name: "fp64_contents", number: 7, wire: 1 },
  BYTES: { name: "bytes_contents", number: 8, wire: 2 },
};

/** In the order of their numbers, from 1. */
const fieldNames = [...new Map(Object.values(fields).map((field) => [field.number, field.name])).entries()]
  .sort(([one], [other]) => one - other)
  .map(([, name]) => name);

/** Elements of BYTES, and numbers that are not packed: each takes two bytes there, and far more here. */
const mostPieces = 1_048_576;
/** Of whole numbers as varints: in memory they may take eight times as much. */
const mostVarintBytes = 16 * 1024 * 1024;

function tooMany({ name }: TensorHead, at: string): SwitchyardError {
  const detail = `Tensor '${shown(name)}': contents is too long, use raw_input_contents`;
  return refuse({ at: `${at}/contents`, expected: "raw_input_contents for so many elements", got: told("contents"), detail });
}

/** The elements of the one field that fits the datatype, as pieces of the message: packed runs, single numbers, or elements of BYTES. */
function piecesOf(head: TensorHead, contents: readonly Uint8Array[], at: string): Uint8Array[] {
  const { name, datatype } = head;
  if (datatype === "FP16") {
    const detail = `Tensor '${shown(name)}': FP16 has no typed contents, use raw_input_contents`;
    throw refuse({ at, expected: "raw_input_contents", got: told("contents"), detail });
  }
  const field = fields[datatype];
  const pieces: Uint8Array[] = [];
  for (const message of contents) {
    const reader = protobuf.Reader.create(message);
    while (reader.pos < reader.len) {
      const tag = reader.tag();
      const number = tag >>> 3;
      const wire = tag & 7;
      const isRight = number === field.number && (wire === 2 || wire === field.wire);
      if (pieces.length >= mostPieces) throw tooMany(head, at);
      const start = reader.pos;
      if (isRight && wire === 2) {
        const piece = reader.bytes();
        if (piece.length > 0 || datatype === "BYTES") pieces.push(piece);
        continue;
      }
      reader.skipType(wire, 0, number);
      if (isRight) pieces.push(message.subarray(start, reader.pos));
      else if (number <= fieldNames.length && !isEmptyRun(message, start, wire)) {
        const got = fieldNames[number - 1]!;
        const detail = `Tensor '${shown(name)}': ${datatype} is sent in ${field.name}, got ${got}`;
        throw refuse({ at, expected: field.name, got: told(got), detail });
      }
    }
  }
  return pieces;
}

const isEmptyRun = (message: Uint8Array, start: number, wire: number): boolean => wire === 2 && message[start] === 0;

/** The bytes of a tensor whose elements came in `contents`. Throws `invalid_request` where they do not fit; other errors where they are no message. */
export function bytesFromContents(head: TensorHead, contents: readonly Uint8Array[], at: string): Uint8Array {
  const pieces = piecesOf(head, contents, at);
  const { datatype } = head;
  if (datatype === "BYTES") return packElements(head, pieces, at);
  const isFloat = datatype === "FP32" || datatype === "FP64";
  if (isFloat) {
    const bytes = joined(pieces);
    mustHold(head, bytes.length / elementBytes[datatype], at);
    return bytes;
  }
  const packed = joined(pieces);
  if (packed.length > mostVarintBytes) throw tooMany(head, at);
  const count = countVarints(packed);
  if (count === undefined) throw new Error(`the numbers of ${shown(head.name)} do not end`);
  mustHold(head, count, at);
  return readWords(head, packed, at);
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0]!;
  let size = 0;
  for (const piece of pieces) size += piece.length;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function mustHold(head: TensorHead, elements: number, at: string): void {
  if (elements === head.count) return;
  const detail = `Tensor '${shown(head.name)}': shape [${head.shape}] has ${head.count} elements, contents has ${elements}`;
  throw refuse({
    at: `${at}/contents`,
    expected: `${head.count} elements for shape [${head.shape}]`,
    got: told(`${elements} elements`),
    detail,
  });
}

/** The least and the greatest number of the types that travel in wider ones. */
const ranges: Partial<Record<Datatype, readonly [number, number]>> = {
  INT8: [-128, 127],
  INT16: [-32_768, 32_767],
  UINT8: [0, 255],
  UINT16: [0, 65_535],
};

function readWords(head: TensorHead, packed: Uint8Array, at: string): Uint8Array {
  const { datatype, count } = head;
  const width = elementBytes[datatype];
  const bytes = new Uint8Array(count * width);
  if (datatype === "BOOL") {
    for (let index = 0, from = 0; index < count; index++) {
      from = readVarint(packed, from);
      bytes[index] = varint.low === 0 && varint.high === 0 ? 0 : 1;
    }
    return bytes;
  }
  if (width === 8) {
    const halves = new Uint32Array(bytes.buffer);
    for (let index = 0, from = 0; index < count; index++) {
      from = readVarint(packed, from);
      halves[2 * index] = varint.low;
      halves[2 * index + 1] = varint.high;
    }
    return bytes;
  }
  const words = width === 4 ? new Uint32Array(bytes.buffer) : width === 2 ? new Uint16Array(bytes.buffer) : bytes;
  const range = ranges[datatype];
  const isSigned = datatype.startsWith("INT");
  for (let index = 0, from = 0; index < count; index++) {
    from = readVarint(packed, from);
    const value = isSigned ? varint.low | 0 : varint.low;
    if (range !== undefined && (value < range[0] || value > range[1])) throw outOfRange(head, { index, value, range, at });
    words[index] = value;
  }
  return bytes;
}

function outOfRange(head: TensorHead, of: { index: number; value: number; range: readonly [number, number]; at: string }): SwitchyardError {
  const expected = `a whole number from ${of.range[0]} to ${of.range[1]}`;
  const detail = `Tensor '${shown(head.name)}': element ${of.index} must be ${expected}, got ${of.value}`;
  return refuse({ at: `${of.at}/contents/${of.index}`, expected, got: of.value, detail });
}

function packElements(head: TensorHead, elements: readonly Uint8Array[], at: string): Uint8Array {
  mustHold(head, elements.length, at);
  let size = 0;
  for (const element of elements) size += 4 + element.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let next = 0;
  for (const element of elements) {
    view.setUint32(next, element.length, true);
    bytes.set(element, next + 4);
    next += 4 + element.length;
  }
  return bytes;
}

/** The message `InferTensorContents` of a tensor. Throws `invalid_request` for FP16, advising raw. */
export function contentsFromTensor(tensor: Tensor, at: string): Uint8Array {
  const { datatype, name } = tensor;
  if (datatype === "FP16") {
    const detail = `Output '${shown(name)}': FP16 has no typed contents, ask without typed_contents`;
    throw refuse({ at, expected: "no typed_contents", got: told("typed_contents"), detail });
  }
  const { number, wire } = fields[datatype];
  const tag = (number << 3) | 2;
  if (tensor.bytes.length === 0) return new Uint8Array(0);
  if (datatype === "BYTES") return elementsWithTags(tensor.bytes, tag);
  if (wire !== 0) return withHead(tag, tensor.bytes);
  return withHead(tag, varintsOf(tensor));
}

/** A field of one run of bytes. */
function withHead(tag: number, run: Uint8Array): Uint8Array {
  const message = new Uint8Array(1 + varintBytes(run.length, 0) + run.length);
  message[0] = tag;
  message.set(run, writeVarint(message, 1, { low: run.length, high: 0 }));
  return message;
}

/** BYTES elements with another head: the length as a varint behind the tag, instead of four bytes. */
function elementsWithTags(bytes: Uint8Array, tag: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let size = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    size += 1 + varintBytes(length, 0) + length;
    at += 4 + length;
  }
  const message = new Uint8Array(size);
  let next = 0;
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    message[next++] = tag;
    next = writeVarint(message, next, { low: length, high: 0 });
    message.set(bytes.subarray(at + 4, at + 4 + length), next);
    next += length;
    at += 4 + length;
  }
  return message;
}

/** Negative numbers are written as 64 bits, as protobuf has it. */
function varintsOf(tensor: Tensor): Uint8Array {
  const { datatype, bytes } = tensor;
  const width = elementBytes[datatype];
  const aligned = alignedView(bytes, width);
  const isSigned = datatype.startsWith("INT");
  const values = wordsOf(aligned, width, isSigned);
  const halves = width === 8 ? new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4) : undefined;
  const count = aligned.length / width;
  const part = { low: 0, high: 0 };
  const take = (index: number): void => {
    if (halves !== undefined) {
      part.low = halves[2 * index]!;
      part.high = halves[2 * index + 1]!;
    } else {
      const value = values[index]!;
      part.low = value >>> 0;
      part.high = value < 0 ? 0xffff_ffff : 0;
    }
  };
  let size = 0;
  for (let index = 0; index < count; index++) {
    take(index);
    size += varintBytes(part.low, part.high);
  }
  const packed = new Uint8Array(size);
  for (let index = 0, next = 0; index < count; index++) {
    take(index);
    next = writeVarint(packed, next, part);
  }
  return packed;
}

function wordsOf(bytes: Uint8Array, width: number, isSigned: boolean): ArrayLike<number> {
  const over = [bytes.buffer, bytes.byteOffset, bytes.length / width] as const;
  if (width === 4) return isSigned ? new Int32Array(...over) : new Uint32Array(...over);
  if (width === 2) return isSigned ? new Int16Array(...over) : new Uint16Array(...over);
  return isSigned ? new Int8Array(...over) : bytes;
}
