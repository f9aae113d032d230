/**
 * From pixels to the one input of an image model, as the `image` section of its model.yaml says: area average to the model's size,
 * grey or colour by its channels, inverted if wanted, then (value × scale − mean) ÷ std in its layout.
 */

import { SwitchyardError } from "./errors.ts";
import type { Pixels } from "./pixels.ts";
import type { ModelConfig } from "./schemas/model-config.ts";

export type ImageConfig = NonNullable<ModelConfig["image"]>;

/** What is asked of a model to make its input of an image; a view of it has all that. */
export interface ImageModel {
  model: string;
  inputs: readonly { name: string; datatype: string; shape: readonly number[] }[];
  config?: Readonly<Record<string, unknown>> | undefined;
}

interface Plan {
  height: number;
  width: number;
  channels: number;
  layout: NonNullable<ImageConfig["layout"]>;
}

/** Why the model cannot be given an image; undefined when it can. */
export function imageFault({ config, inputs, model }: ImageModel): string | undefined {
  const [input] = inputs;
  if (input === undefined || inputs.length !== 1)
    return `model ${model} does not say how it takes an image: it has ${inputs.length} inputs`;
  if (config?.image === undefined) return `model ${model} does not say how it takes an image: its model.yaml has no \`image\` section`;
  if (input.datatype !== "FP32") return `model ${model} takes ${input.datatype}, and images are made into FP32 only`;
  const { channels, layout } = planOf(config.image as ImageConfig, input.shape);
  if (channels === 1 || channels === 3) return undefined;
  return `model ${model} takes images of ${channels} channels as ${layout} [${input.shape}], and they are made grey (1) or in colour (3) only`;
}

/** An image as FP32 [1, …]. Throws `invalid_request` when the model does not say how it wants images. */
export function imageTensor(pixels: Pixels, model: ImageModel): { name: string; shape: number[]; data: Float32Array } {
  const fault = imageFault(model);
  if (fault !== undefined) throw new SwitchyardError("invalid_request", fault);
  const config = model.config!.image as ImageConfig;
  const input = model.inputs[0]!;
  const plan = planOf(config, input.shape);
  const small = areaAverage(plan.channels === 1 ? grey(pixels) : interleaved(pixels), plan);
  if (isInverted(config.invert ?? "never", pixels)) for (let index = 0; index < small.length; index++) small[index] = 255 - small[index]!;
  return { name: input.name, shape: shapeOf(plan, input.shape), data: arrange(small, plan, config) };
}

function planOf(config: ImageConfig, shape: readonly number[]): Plan {
  const [height, width] = config.size;
  const layout = config.layout ?? (shape.length === 4 ? "NCHW" : shape.length === 2 ? "FLAT" : "HW");
  const perItem = shape.slice(1);
  const declared =
    layout === "NCHW" ? perItem[0] : layout === "NHWC" ? perItem[2] : layout === "FLAT" ? (perItem[0] ?? -1) / (height * width) : 1;
  const channels = declared === undefined || declared < 0 ? 1 : declared;
  return { height, width, channels, layout };
}

function shapeOf(plan: Plan, declared: readonly number[]): number[] {
  const { height, width, channels } = plan;
  switch (plan.layout) {
    case "NCHW":
      return [1, channels, height, width];
    case "NHWC":
      return [1, height, width, channels];
    case "FLAT":
      return declared.length === 1 ? [height * width * channels] : [1, height * width * channels];
    case "HW":
      return declared.length === 2 ? [height, width] : [1, height, width];
  }
}

interface Plane {
  width: number;
  height: number;
  channels: number;
  /** Channels of a pixel stand together. */
  values: Float32Array;
}

function interleaved(pixels: Pixels): Plane {
  return { width: pixels.width, height: pixels.height, channels: 3, values: pixels.rgb };
}

function grey(pixels: Pixels): Plane {
  const values = new Float32Array(pixels.width * pixels.height);
  for (let pixel = 0; pixel < values.length; pixel++) values[pixel] = luma(pixels.rgb, pixel);
  return { width: pixels.width, height: pixels.height, channels: 1, values };
}

/** ITU-R BT.601, as most image tools. */
function luma(rgb: Float32Array, pixel: number): number {
  return 0.299 * rgb[pixel * 3]! + 0.587 * rgb[pixel * 3 + 1]! + 0.114 * rgb[pixel * 3 + 2]!;
}

/** Every target pixel is the mean of the source area that it covers, parts of pixels by their share; also enlarges. */
function areaAverage(source: Plane, target: { width: number; height: number }): Float32Array {
  const narrow = averageColumns(source, target.width);
  return averageRows(narrow, target.height).values;
}

interface Span {
  from: number;
  weights: number[];
}

/** For each of `to` cells laid over `from` cells: the first one covered and the shares of those covered; shares add up to 1. */
function spans(from: number, to: number): Span[] {
  const step = from / to;
  return Array.from({ length: to }, (_, cell) => {
    const start = cell * step;
    const end = Math.min(from, (cell + 1) * step);
    const first = Math.min(Math.floor(start), from - 1);
    const weights: number[] = [];
    for (let at = first; at < end; at++) weights.push(Math.max(0, Math.min(end, at + 1) - Math.max(start, at)) / (end - start));
    return { from: first, weights };
  });
}

function averageColumns(source: Plane, width: number): Plane {
  const { height, channels } = source;
  const values = new Float32Array(width * height * channels);
  const columns = spans(source.width, width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const { from, weights } = columns[column]!;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let at = 0; at < weights.length; at++)
          sum += weights[at]! * source.values[(row * source.width + from + at) * channels + channel]!;
        values[(row * width + column) * channels + channel] = sum;
      }
    }
  }
  return { width, height, channels, values };
}

function averageRows(source: Plane, height: number): Plane {
  const stride = source.width * source.channels;
  const values = new Float32Array(height * stride);
  spans(source.height, height).forEach(({ from, weights }, row) => {
    for (let at = 0; at < weights.length; at++) {
      for (let index = 0; index < stride; index++)
        values[row * stride + index]! += weights[at]! * source.values[(from + at) * stride + index]!;
    }
  });
  return { ...source, height, values };
}

function isInverted(when: NonNullable<ImageConfig["invert"]>, pixels: Pixels): boolean {
  return when === "always" || (when === "bright-border" && borderBrightness(pixels) > 127.5);
}

/** Mean over the outermost pixels: paper is bright there, a screen dark. */
function borderBrightness(pixels: Pixels): number {
  const { width, height, rgb } = pixels;
  let sum = 0;
  let count = 0;
  for (let row = 0; row < height; row++) {
    const isEdgeRow = row === 0 || row === height - 1;
    for (let column = 0; column < width; column += isEdgeRow || width === 1 ? 1 : width - 1) {
      sum += luma(rgb, row * width + column);
      count++;
    }
  }
  return sum / count;
}

/** Mean and std hold one number for all channels or one for each, in units after the scale. */
function arrange(small: Float32Array, plan: Plan, config: ImageConfig): Float32Array {
  const { channels } = plan;
  const area = plan.height * plan.width;
  const scale = config.scale ?? 1 / 255;
  const data = new Float32Array(small.length);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < channels; channel++) {
      const mean = config.mean?.[channel] ?? config.mean?.[0] ?? 0;
      const std = config.std?.[channel] ?? config.std?.[0] ?? 1;
      const at = plan.layout === "NCHW" ? channel * area + pixel : pixel * channels + channel;
      data[at] = (small[pixel * channels + channel]! * scale - mean) / std;
    }
  }
  return data;
}
