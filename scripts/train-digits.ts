/**
 * Trains the example model and writes everything that comes from the data: `models/digits`, `test/data/digits`, `examples/digits`.
 * Usage: node scripts/train-digits.ts [digits.csv[.gz]]. Without a path the table is fetched with pip (scikit-learn's wheel).
 * The same data and seeds give the same files, byte for byte.
 */

import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Recipe, toOnnx, train } from "./digits/classifier.ts";
import { type Digit, pixelsAsText, readDigits, splitDigits } from "./digits/data-set.ts";
import { type Figures, heldOutReadme, modelReadme, modelYaml } from "./digits/documents.ts";
import { drawDigit } from "./digits/example-images.ts";
import { classify } from "./digits/measurement.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const splitSeed = 1797;
const recipe: Recipe = { seed: 1, hidden: 64, epochs: 100, batch: 32, learningRate: 0.005, weightDecay: 0.01, shifted: 0.3 };

const { train: trainingSet, heldOut } = splitDigits(readDigits(process.argv[2]), splitSeed);
const model = toOnnx(train(trainingSet, recipe));
const answers = await classify(model, heldOut);
const correct = heldOut.filter((digit, index) => answers[index]!.label === digit.label).length;
const figures: Figures = {
  model: "digits",
  version: 1,
  heldOut: heldOut.length,
  correct,
  accuracy: correct / heldOut.length,
  modelSha256: createHash("sha256").update(model).digest("hex"),
};
if (figures.accuracy < 0.97) throw new Error(`the classifier names only ${correct} of ${heldOut.length} held-out digits`);

write("models/digits/1/model.onnx", model);
write("models/digits/model.yaml", modelYaml);
write("models/digits/labels.txt", `${[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].join("\n")}\n`);
write("models/digits/README.md", modelReadme(figures, { train: trainingSet.length, hidden: recipe.hidden }));
const labels = heldOut.map((digit) => digit.label).join("");
write("test/data/digits/held-out.json", asJson({ images: heldOut.map((digit) => pixelsAsText(digit.pixels)), labels }));
write("test/data/digits/accuracy.json", asJson(figures));
write("test/data/digits/README.md", heldOutReadme(figures));
write("examples/digits/five.png", drawDigit(clearest(5).pixels, { scale: 16, paper: "white" }));
write("examples/digits/three.png", drawDigit(clearest(3).pixels, { scale: 16, paper: "white" }));
write("examples/digits/eight-on-black.png", drawDigit(clearest(8).pixels, { scale: 8, paper: "black" }));
process.stdout.write(`${correct} of ${heldOut.length} held-out digits are named correctly (${(100 * figures.accuracy).toFixed(2)} %)\n`);

/** The held-out image of that digit with the cleanest border, among those that the model is sure of. */
function clearest(label: number): Digit {
  const sure = heldOut.filter(
    (digit, index) => digit.label === label && answers[index]!.label === label && answers[index]!.probability > 0.99,
  );
  return sure.reduce((best, candidate) => (borderInk(candidate) < borderInk(best) ? candidate : best));
}

function borderInk(digit: Digit): number {
  return digit.pixels.reduce((sum, ink, index) => (index < 8 || index >= 56 || index % 8 === 0 || index % 8 === 7 ? sum + ink : sum), 0);
}

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

function asJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
