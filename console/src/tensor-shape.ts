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

export interface Named {
  label: string;
  value: number;
}

/** Named values, the largest first. */
export function rankedOf(values: readonly number[], labels: readonly string[]): Named[] {
  return values.map((value, at) => ({ label: labels[at] ?? String(at), value })).sort((one, other) => other.value - one.value);
}

/** What an output says of the classes that labels name. */
export interface Classes {
  /** `scores`: one of each class. `indexes`: of those classes that it is. */
  kind: "scores" | "indexes";
  /** By item, the best first; of indexes each stands alone. */
  items: Named[][];
}

const floats = /^(FP|BF)\d/;
/** Types of one byte or two also have the scores of quantized models. */
const narrow = /^(U?INT(8|16)|BOOL)$/;
const wholes = /^(U?INT\d|BOOL)/;

/** Undefined when the output looks neither like scores of all classes nor like indexes of some. */
export function classesOf(
  { data, datatype, shape }: { data?: unknown[] | undefined; datatype: string; shape: readonly number[] },
  labels: readonly string[],
): Classes | undefined {
  const values = (data?.flat(8) ?? []).map(Number);
  const count = labels.length;
  if (values.length === 0 || count === 0) return undefined;
  const perItem = shape.length > 1 ? values.length / (shape[0] as number) : values.length;
  const isOneEach = shape.at(-1) === count || perItem === count;
  if (isOneEach && (floats.test(datatype) || (narrow.test(datatype) && shape.length > 1))) {
    const items = Array.from({ length: values.length / count }, (_, item) => values.slice(item * count, (item + 1) * count));
    return { kind: "scores", items: items.map((scores) => rankedOf(scores, labels)) };
  }
  if (!wholes.test(datatype) || values.some((value) => labels[value] === undefined)) return undefined;
  return { kind: "indexes", items: values.map((value) => [{ label: labels[value] as string, value }]) };
}
