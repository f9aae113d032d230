/** Reads PNG files; the only file that knows pngjs. Anything else is refused by name. */

import { PNG } from "pngjs";
import { UsageError } from "./exit-codes.ts";

export interface Pixels {
  width: number;
  height: number;
  /** Red, green, blue per pixel, 0 to 255, row by row; transparency is laid over white. */
  rgb: Float32Array;
}

const otherFormats: readonly [name: string, start: string][] = [
  ["a JPEG image", "ffd8ff"],
  ["a GIF image", "474946"],
  ["a BMP image", "424d"],
  ["a WebP image", "52494646"],
  ["a TIFF image", "49492a00"],
  ["a TIFF image", "4d4d002a"],
  ["a PDF document", "25504446"],
];

/** @param name shown in errors */
export function readPng(bytes: Uint8Array, name: string): Pixels {
  const start = Buffer.from(bytes.subarray(0, 8)).toString("hex");
  if (start !== "89504e470d0a1a0a") {
    const other = otherFormats.find(([, magic]) => start.startsWith(magic));
    throw new UsageError(`${name} is ${other === undefined ? "not a PNG image" : other[0]}; only PNG images can be read`);
  }
  let png: PNG;
  try {
    png = PNG.sync.read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  } catch (error) {
    throw new UsageError(`${name} is a damaged PNG image: ${error instanceof Error ? error.message : String(error)}`);
  }
  const count = png.width * png.height;
  const rgb = new Float32Array(count * 3);
  for (let pixel = 0; pixel < count; pixel++) {
    const alpha = png.data[pixel * 4 + 3]! / 255;
    for (let channel = 0; channel < 3; channel++) rgb[pixel * 3 + channel] = png.data[pixel * 4 + channel]! * alpha + 255 * (1 - alpha);
  }
  return { width: png.width, height: png.height, rgb };
}
