/** Reads PNG files; the only file that knows pngjs. Anything else is refused by name. */

import { notPng, type Pixels, pixelsOf } from "@switchyard/protocol";
import { PNG } from "pngjs";
import { UsageError } from "./exit-codes.ts";

/** @param name shown in errors */
export function readPng(bytes: Uint8Array, name: string): Pixels {
  const other = notPng(bytes);
  if (other !== undefined) throw new UsageError(`${name} is ${other}; only PNG images can be read`);
  let png: PNG;
  try {
    png = PNG.sync.read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    throw new UsageError(`${name} is a damaged PNG image: ${error instanceof Error ? error.message : String(error)}`);
  }
  return pixelsOf(png);
}
