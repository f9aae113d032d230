/** What a tensor's shape says about how to look at it. */

import type { ModelView } from "@switchyard/protocol";

export interface ImagePlane {
  width: number;
  height: number;
  rgba: Uint8ClampedArray<ArrayBuffer>;
}

interface Layout {
  width: number;
  height: number;
  channels: 1 | 3;
  /** Channels of a pixel stand together. */
  isInterleaved: boolean;
}

const smallest = 4;
const largest = 4_096;

function layoutOf(shape: readonly number[], model: Pick<ModelView, "config"> | undefined): Layout | undefined {
  const item = shape.slice(1);
  const size = (model?.config?.image as { size?: [number, number] } | undefined)?.size;
  const count = item.reduce((product, extent) => product * extent, 1);
  if (size !== undefined && item.length === 1) {
    const [height, width] = size;
    if (count === height * width) return { width, height, channels: 1, isInterleaved: true };
    if (count === 3 * height * width) return { width, height, channels: 3, isInterleaved: true };
  }
  const [first = 0, second = 0, third = 0] = item;
  if (item.length === 2) return { height: first, width: second, channels: 1, isInterleaved: true };
  if (item.length !== 3) return undefined;
  if (first === 1 || first === 3) return { channels: first, height: second, width: third, isInterleaved: false };
  if (third === 1 || third === 3) return { height: first, width: second, channels: third, isInterleaved: true };
  return undefined;
}

/** The first item as a picture, its values spread from black to white; undefined where it is none. */
export function planeOf(
  { data, shape }: { data?: unknown[] | undefined; shape: readonly number[] },
  model: Pick<ModelView, "config"> | undefined,
): ImagePlane | undefined {
  const layout = data && layoutOf(shape, model);
  if (!layout || Math.min(layout.width, layout.height) < smallest || Math.max(layout.width, layout.height) > largest) return undefined;
  const { channels, height, isInterleaved, width } = layout;
  const pixels = width * height;
  const values = data
    .flat(8)
    .slice(0, pixels * channels)
    .map(Number);
  if (values.length < pixels * channels || values.some((value) => !Number.isFinite(value))) return undefined;
  const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  const rgba = new Uint8ClampedArray(4 * pixels);
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let colour = 0; colour < 3; colour++) {
      const channel = channels === 1 ? 0 : colour;
      const value = values[isInterleaved ? pixel * channels + channel : channel * pixels + pixel] as number;
      rgba[4 * pixel + colour] = high > low ? (255 * (value - low)) / (high - low) : 0;
    }
    rgba[4 * pixel + 3] = 255;
  }
  return { width, height, rgba };
}

/** Named values, the largest first. */
export function rankedOf(values: readonly number[], labels: readonly string[]): { label: string; value: number }[] {
  return values.map((value, at) => ({ label: labels[at] ?? String(at), value })).sort((one, other) => other.value - one.value);
}
