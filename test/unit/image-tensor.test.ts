import assert from "node:assert/strict";
import { test } from "node:test";
import { PNG } from "pngjs";
import { type ImageConfig, imageTensor } from "../../client-sdk/src/cli/image-tensor.ts";
import { readPng } from "../../client-sdk/src/cli/png-pixels.ts";
import { modelView } from "../support/job-views.ts";

type Paint = (x: number, y: number) => readonly [red: number, green: number, blue: number, alpha?: number];

function png(width: number, height: number, paint: Paint): Uint8Array {
  const image = new PNG({ width, height });
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [red, green, blue, alpha = 255] = paint(x, y);
      image.data.set([red, green, blue, alpha], (y * width + x) * 4);
    }
  }
  return PNG.sync.write(image);
}

function model(image: ImageConfig, shape: number[]) {
  return modelView({ inputs: [{ name: "image", datatype: "FP32", shape }], config: { image } });
}

function tensorOf(bytes: Uint8Array, image: ImageConfig, shape: number[]) {
  return imageTensor(readPng(bytes, "test.png"), model(image, shape));
}

const grey = (value: number) => [value, value, value] as const;

test("a picture is averaged by area to the model's size", () => {
  const columns = png(4, 2, (x) => grey(x * 60));
  const made = tensorOf(columns, { size: [1, 2], layout: "FLAT", scale: 1 }, [-1, 2]);
  assert.equal(made.name, "image");
  assert.deepEqual(made.shape, [1, 2]);
  assert.deepEqual([...made.data], [30, 150]);
});

test("pixels that lie across two cells count in both by their share", () => {
  const bytes = png(3, 1, (x) => grey([0, 90, 240][x]!));
  const made = tensorOf(bytes, { size: [1, 2], layout: "FLAT", scale: 1 }, [-1, 2]);
  assert.deepEqual([...made.data].map(Math.round), [30, 190]);
});

test("a smaller picture is enlarged", () => {
  const made = tensorOf(
    png(1, 2, (_, y) => grey(y * 200)),
    { size: [4, 2], layout: "HW", scale: 1 },
    [-1, 4, 2],
  );
  assert.deepEqual(made.shape, [1, 4, 2]);
  assert.deepEqual([...made.data], [0, 0, 0, 0, 200, 200, 200, 200]);
});

test("sizes are height by width", () => {
  const made = tensorOf(
    png(20, 10, () => grey(0)),
    { size: [2, 3] },
    [-1, 1, 2, 3],
  );
  assert.deepEqual(made.shape, [1, 1, 2, 3]);
});

test("dark ink on bright paper is inverted, bright ink on black is not", () => {
  const isInk = (x: number, y: number): boolean => x >= 3 && x < 5 && y >= 3 && y < 5;
  const onPaper = png(8, 8, (x, y) => grey(isInk(x, y) ? 0 : 255));
  const onBlack = png(8, 8, (x, y) => grey(isInk(x, y) ? 255 : 0));
  const config: ImageConfig = { size: [8, 8], layout: "FLAT", scale: 16 / 255, invert: "bright-border" };
  const paper = tensorOf(onPaper, config, [-1, 64]).data;
  assert.deepEqual(paper, tensorOf(onBlack, config, [-1, 64]).data);
  assert.equal(paper[3 * 8 + 3], 16);
  assert.equal(paper[0], 0);
});

test("transparent pixels are paper", () => {
  const bytes = png(2, 1, (x) => (x === 0 ? [0, 0, 0, 0] : [0, 0, 0, 255]));
  assert.deepEqual([...tensorOf(bytes, { size: [1, 2], layout: "FLAT", scale: 1 }, [-1, 2]).data], [255, 0]);
});

test("colour keeps its channels in both layouts, with mean and deviation of each", () => {
  const bytes = png(2, 1, (x) => (x === 0 ? [255, 0, 51] : [0, 255, 102]));
  const config = { size: [1, 2] as [number, number], mean: [0, 0, 0.2], std: [1, 0.5, 0.2] };
  const round = (data: Float32Array): number[] => [...data].map((value) => Math.round(value * 1000) / 1000 + 0);
  const planes = tensorOf(bytes, { ...config, layout: "NCHW" }, [-1, 3, 1, 2]);
  assert.deepEqual(
    [planes.shape, round(planes.data)],
    [
      [1, 3, 1, 2],
      [1, 0, 0, 2, 0, 1],
    ],
  );
  const pixels = tensorOf(bytes, { ...config, layout: "NHWC" }, [-1, 1, 2, 3]);
  assert.deepEqual(
    [pixels.shape, round(pixels.data)],
    [
      [1, 1, 2, 3],
      [1, 0, 0, 0, 2, 1],
    ],
  );
});

test("colour becomes grey as the eye weighs it", () => {
  const made = tensorOf(
    png(1, 1, () => [255, 0, 0]),
    { size: [1, 1], layout: "FLAT", scale: 1 },
    [-1, 1],
  );
  assert.ok(Math.abs(made.data[0]! - 76.245) < 0.01);
});

test("other formats are refused by name", () => {
  assert.throws(() => readPng(Uint8Array.of(0xff, 0xd8, 0xff, 0xe0), "photo.jpg"), {
    message: "photo.jpg is a JPEG image; only PNG images can be read",
  });
  assert.throws(() => readPng(new TextEncoder().encode("hello"), "notes.txt"), /notes\.txt is not a PNG image/);
  assert.throws(() => readPng(png(8, 8, () => grey(9)).subarray(0, 60), "cut.png"), /cut\.png is a damaged PNG image/);
});

test("a model that does not say how it takes images is named", () => {
  const pixels = readPng(
    png(1, 1, () => grey(0)),
    "x.png",
  );
  assert.throws(
    () => imageTensor(pixels, modelView()),
    /model digits does not say how it takes an image.*model\.yaml has no `image` section/,
  );
  assert.throws(() => imageTensor(pixels, model({ size: [1, 1], layout: "NCHW" }, [-1, 4, 1, 1])), /4 channels/);
});
