/** The example model on its own in onnxruntime: what the whole path must equal. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { PNG } from "pngjs";

const at = (path: string) => new URL(`../../${path}`, import.meta.url);
const model = readFileSync(at("models/digits/1/model.onnx"));
const accuracy = JSON.parse(readFileSync(at("test/data/digits/accuracy.json"), "utf8"));
const heldOut: { images: string[]; labels: string } = JSON.parse(readFileSync(at("test/data/digits/held-out.json"), "utf8"));

async function classify(images: readonly number[][]): Promise<number[]> {
  const session = await InferenceSession.create(model);
  const answer = await session.run({ image: new Tensor("float32", Float32Array.from(images.flat()), [images.length, 64]) });
  return Array.from(answer.label!.data as BigInt64Array, Number);
}

test("the digits model names as many held-out digits correctly as its documents say", async () => {
  assert.equal(createHash("sha256").update(model).digest("hex"), accuracy.modelSha256);
  const labels = await classify(heldOut.images.map((image) => Array.from(image, (pixel) => Number.parseInt(pixel, 17))));
  assert.equal(labels.length, heldOut.labels.length);
  const correct = labels.filter((label, index) => label === Number(heldOut.labels[index])).length;
  assert.equal(correct, accuracy.correct);
  assert.equal(correct / labels.length, accuracy.accuracy);
  assert.ok(accuracy.accuracy >= 0.97);
  for (const document of ["models/digits/README.md", "test/data/digits/README.md"]) {
    assert.ok(readFileSync(at(document), "utf8").includes(`${(100 * accuracy.accuracy).toFixed(2)} %`), document);
  }
});

/** Averages areas down to 8×8 and turns bright borders into dark ones, so that ink is bright, 0–16. */
function asModelInput(file: string): number[] {
  const png = PNG.sync.read(readFileSync(at(file)));
  const small = new Array<number>(64).fill(0);
  let border = 0;
  for (let row = 0; row < png.height; row += 1) {
    for (let column = 0; column < png.width; column += 1) {
      const grey = png.data[(row * png.width + column) * 4]!;
      small[Math.floor((row * 8) / png.height) * 8 + Math.floor((column * 8) / png.width)]! += (grey * 64) / (png.width * png.height);
      if (row === 0 || column === 0 || row === png.height - 1 || column === png.width - 1) border += grey;
    }
  }
  const bright = border / (2 * (png.width + png.height) - 4) > 127.5;
  return small.map((grey) => ((bright ? 255 - grey : grey) * 16) / 255);
}

test("the example pictures are named as their file names say, on white and on black", async () => {
  const pictures = ["five.png", "three.png", "eight-on-black.png"].map((name) => asModelInput(`examples/digits/${name}`));
  assert.deepEqual(await classify(pictures), [5, 3, 8]);
});
