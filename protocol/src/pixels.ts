/** Pictures as numbers, whichever program decodes their files. */

export interface Pixels {
  width: number;
  height: number;
  /** Red, green, blue per pixel, 0 to 255, row by row; transparency is laid over white. */
  rgb: Float32Array;
}

const pngStart = "89504e470d0a1a0a";
const otherFormats: readonly [name: string, start: string][] = [
  ["a JPEG image", "ffd8ff"],
  ["a GIF image", "474946"],
  ["a BMP image", "424d"],
  ["a WebP image", "52494646"],
  ["a TIFF image", "49492a00"],
  ["a TIFF image", "4d4d002a"],
  ["a PDF document", "25504446"],
];

/** What a file is that is no PNG image, in words; undefined for one that begins as such an image does. */
export function notPng(bytes: Uint8Array): string | undefined {
  const start = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (start === pngStart) return undefined;
  return otherFormats.find(([, magic]) => start.startsWith(magic))?.[0] ?? "not a PNG image";
}

/** Width and height as the head of a PNG image says them, before any of it is unpacked; undefined when it is cut off. */
export function pngSize(bytes: Uint8Array): { width: number; height: number } | undefined {
  if (bytes.length < 24) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 24);
  return { width: view.getUint32(16), height: view.getUint32(20) };
}

/** Of four bytes per pixel: red, green, blue, opacity. */
export function pixelsOf({ data, height, width }: { data: Uint8Array; height: number; width: number }): Pixels {
  const count = width * height;
  const rgb = new Float32Array(count * 3);
  for (let pixel = 0; pixel < count; pixel++) {
    const alpha = data[pixel * 4 + 3]! / 255;
    for (let channel = 0; channel < 3; channel++) rgb[pixel * 3 + channel] = data[pixel * 4 + channel]! * alpha + 255 * (1 - alpha);
  }
  return { width, height, rgb };
}
