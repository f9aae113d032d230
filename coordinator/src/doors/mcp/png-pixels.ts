/**
 * Reads PNG images; the only file here that knows pngjs. Unpacking holds everybody else up, so size is asked before it begins, and nothing of
 * a file is unpacked that says one thing at its head and another behind it: pngjs goes by the last head that it meets, and unpacks interlaced
 * images without a bound.
 */

import { inflateSync } from "node:zlib";
import { notPng, type Pixels, pixelsOf, pngSize, SwitchyardError } from "@switchyard/protocol";
import { PNG } from "pngjs";

/** 2,048 × 2,048: models look at far less. */
const mostPixels = 4_194_304;
/** Of all images of one call. */
const mostPixelsOfCall = 16 * mostPixels;
/** Four channels of two bytes. */
const mostBytesOfPixel = 8;
const headBytes = 13;
const interlaceAt = 12;

/** What may be unpacked for one call. */
export class PixelBudget {
  readonly #most: number;
  #spent = 0;

  constructor(most: number = mostPixelsOfCall) {
    this.#most = most;
  }

  /** Throws `invalid_request` for what would be too much. */
  spend(pixels: number, at: string): void {
    this.#spent += pixels;
    if (this.#spent <= this.#most) return;
    throw refused(at, `within ${this.#most} pixels, of all images of a call; make them smaller, or use several calls`, `over that`);
  }
}

/** @param at the JSON pointer that errors name. Throws `invalid_request`. */
export function readPng(bytes: Uint8Array, at: string, budget?: PixelBudget): Pixels {
  const other = notPng(bytes);
  if (other !== undefined) throw refused(at, "a PNG image", other);
  const size = pngSize(bytes);
  if (size === undefined) throw refused(at, "a whole PNG image", "one that is cut off");
  if (size.width * size.height > mostPixels) {
    throw refused(at, `an image of at most ${mostPixels} pixels; make it smaller first`, `one of ${size.width} × ${size.height}`);
  }
  budget?.spend(size.width * size.height, at);
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    checkChunks(file, size);
    return pixelsOf(PNG.sync.read(file));
  } catch (error) {
    throw refused(at, "a PNG image", `a damaged one (${error instanceof Error ? error.message : String(error)})`);
  }
}

interface Chunk {
  type: string;
  data: Buffer;
}

/** Throws an Error for a file that pngjs would unpack to more than its head says. */
function checkChunks(file: Buffer, { height, width }: { width: number; height: number }): void {
  const [head, ...others] = chunksOf(file);
  if (head?.type !== "IHDR" || head.data.length !== headBytes) throw new Error("it does not begin with its head");
  if (others.some(({ type }) => type === "IHDR")) throw new Error("it has two heads");
  if (width === 0 || height === 0) throw new Error(`it is ${width} × ${height}`);
  if (head.data[interlaceAt] === 0) return;
  // seven small images, whose rows have a byte each before them
  const maxOutputLength = width * height * mostBytesOfPixel + 4 * height + 64;
  inflateSync(Buffer.concat(others.flatMap(({ data, type }) => (type === "IDAT" ? [data] : []))), { maxOutputLength });
}

/** Up to the end that the file names, or to where it is cut off. */
function chunksOf(file: Buffer): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = 8; at + 8 <= file.length; ) {
    const dataAt = at + 8;
    const endAt = dataAt + file.readUInt32BE(at);
    const chunk = { type: file.toString("latin1", at + 4, dataAt), data: file.subarray(dataAt, endAt) };
    chunks.push(chunk);
    if (chunk.type === "IEND") break;
    at = endAt + 4;
  }
  return chunks;
}

function refused(pointer: string, expected: string, got: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `${pointer} must be ${expected}; it is ${got}`, { fields: [{ pointer, expected, got }] });
}
