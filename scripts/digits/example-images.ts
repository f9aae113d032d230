/** Pictures of held-out digits as people would send them: PNG, larger than the model's 8×8, dark ink on white or the other way round. */

import { createRequire } from "node:module";
import type { PNG as PngClass } from "pngjs";

/** The pictures' library belongs to the test workspace. */
const { PNG } = createRequire(new URL("../../test/package.json", import.meta.url))("pngjs") as { PNG: typeof PngClass };

const edge = 8;

/** Draws each pixel as a square of `scale`×`scale`. Pixels are 0 (paper) to 16 (ink). */
export function drawDigit(pixels: readonly number[], of: { scale: number; paper: "white" | "black" }): Buffer {
  const size = edge * of.scale;
  const png = new PNG({ width: size, height: size });
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const ink = pixels[Math.floor(row / of.scale) * edge + Math.floor(column / of.scale)]! / 16;
      const grey = Math.round(255 * (of.paper === "white" ? 1 - ink : ink));
      png.data.set([grey, grey, grey, 255], (row * size + column) * 4);
    }
  }
  return PNG.sync.write(png, { colorType: 0, inputColorType: 6 });
}
