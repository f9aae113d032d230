/**
 * The elements of BYTES tensors: each is a uint32 little-endian length followed by that many bytes of UTF-8 text.
 * Owns walking, checking and building them; never copies an element while it reads.
 */

import { SwitchyardError } from "./errors.ts";

const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a walk over BYTES found: how many whole elements, and the first that is broken. */
export interface BytesScan {
  count: number;
  fault?: { index: number; kind: "truncated" | "not_utf8" };
}

function lengthAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function isUtf8(bytes: Uint8Array): boolean {
  let at = 0;
  while (at < bytes.length && bytes[at]! < 0x80) at++;
  if (at === bytes.length) return true;
  try {
    strictDecoder.decode(bytes.subarray(at));
    return true;
  } catch {
    return false;
  }
}

/** Walks the elements once, allocating nothing per element. */
export function scanBytesElements(bytes: Uint8Array): BytesScan {
  let at = 0;
  let count = 0;
  while (at < bytes.length) {
    const start = at + 4;
    if (start > bytes.length) return { count, fault: { index: count, kind: "truncated" } };
    const end = start + lengthAt(bytes, at);
    if (end > bytes.length) return { count, fault: { index: count, kind: "truncated" } };
    if (!isUtf8(bytes.subarray(start, end))) return { count, fault: { index: count, kind: "not_utf8" } };
    at = end;
    count++;
  }
  return { count };
}

/** The elements as views on `bytes`. Throws `invalid_request` when a length points past the end. */
export function decodeBytesElements(bytes: Uint8Array): Uint8Array[] {
  const elements: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    const start = at + 4;
    const end = start <= bytes.length ? start + lengthAt(bytes, at) : Number.POSITIVE_INFINITY;
    if (end > bytes.length) {
      throw new SwitchyardError("invalid_request", `BYTES element ${elements.length} runs past the end of its tensor`);
    }
    elements.push(bytes.subarray(start, end));
    at = end;
  }
  return elements;
}

/** The elements as text. Throws `invalid_request` when one is truncated or not valid UTF-8. */
export function decodeBytesStrings(bytes: Uint8Array): string[] {
  return decodeBytesElements(bytes).map((element, index) => {
    try {
      return strictDecoder.decode(element);
    } catch {
      throw new SwitchyardError("invalid_request", `BYTES element ${index} is not valid UTF-8`);
    }
  });
}

/** Packs elements; strings become UTF-8. */
export function encodeBytesElements(elements: readonly (string | Uint8Array)[]): Uint8Array {
  const chunks = elements.map((element) => (typeof element === "string" ? encoder.encode(element) : element));
  let size = 0;
  for (const chunk of chunks) size += 4 + chunk.length;
  const packed = new Uint8Array(size);
  const view = new DataView(packed.buffer);
  let at = 0;
  for (const chunk of chunks) {
    view.setUint32(at, chunk.length, true);
    packed.set(chunk, at + 4);
    at += 4 + chunk.length;
  }
  return packed;
}
