/** Reads PNG images; the only file here that knows pngjs. Unpacking holds everybody else up, so that size is asked before it begins. */

import { notPng, type Pixels, pixelsOf, pngSize, SwitchyardError } from "@switchyard/protocol";
import { PNG } from "pngjs";

/** 2,048 × 2,048: models look at far less. */
const mostPixels = 4_194_304;

/** @param at the JSON pointer that errors name. Throws `invalid_request`. */
export function readPng(bytes: Uint8Array, at: string): Pixels {
  const other = notPng(bytes);
  if (other !== undefined) throw refused(at, "a PNG image", other);
  const size = pngSize(bytes);
  if (size === undefined) throw refused(at, "a whole PNG image", "one that is cut off");
  if (size.width * size.height > mostPixels) {
    throw refused(at, `an image of at most ${mostPixels} pixels; make it smaller first`, `one of ${size.width} × ${size.height}`);
  }
  try {
    return pixelsOf(PNG.sync.read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)));
  } catch (error) {
    throw refused(at, "a PNG image", `a damaged one (${error instanceof Error ? error.message : String(error)})`);
  }
}

function refused(pointer: string, expected: string, got: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `${pointer} must be ${expected}; it is ${got}`, { fields: [{ pointer, expected, got }] });
}
