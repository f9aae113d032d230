/** A network with one hidden layer for 8×8 digits, trained with Adam on cross-entropy, in plain seeded arithmetic. */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import { type SeededRandom, seededRandom, shuffle } from "../seeded-random.ts";
import type { Digit } from "./data-set.ts";

const inputs = 64;
const classes = 10;
const inkMaximum = 16;

export interface Recipe {
  seed: number;
  hidden: number;
  epochs: number;
  batch: number;
  learningRate: number;
  weightDecay: number;
  /** Share of the images that are moved by one pixel when shown, so that the network does not depend on exact centring. */
  shifted: number;
}

/** A trained layer: `weights` are [out, in], row-major. */
interface Layer {
  in: number;
  out: number;
  weights: Float64Array;
  bias: Float64Array;
}

export interface Classifier {
  hidden: Layer;
  output: Layer;
}

export function train(digits: readonly Digit[], recipe: Recipe): Classifier {
  const random = seededRandom(recipe.seed);
  const classifier = { hidden: newLayer(inputs, recipe.hidden, random), output: newLayer(recipe.hidden, classes, random) };
  const trainers = [new AdamLayer(classifier.hidden, recipe.weightDecay), new AdamLayer(classifier.output, recipe.weightDecay)] as const;
  const order = digits.map((_, index) => index);
  for (let epoch = 0; epoch < recipe.epochs; epoch += 1) {
    shuffle(order, random);
    // The rate falls along a half cosine, which settles the weights at the end.
    const rate = (recipe.learningRate * (1 + Math.cos((Math.PI * epoch) / recipe.epochs))) / 2;
    for (let start = 0; start < order.length; start += recipe.batch) {
      const batch = order.slice(start, start + recipe.batch);
      for (const index of batch) learn(classifier, trainers, digits[index]!, recipe, random);
      for (const trainer of trainers) trainer.step(rate, batch.length);
    }
  }
  return classifier;
}

function newLayer(fanIn: number, fanOut: number, random: SeededRandom): Layer {
  const weights = Float64Array.from({ length: fanIn * fanOut }, () => random.normal() * Math.sqrt(2 / fanIn));
  return { in: fanIn, out: fanOut, weights, bias: new Float64Array(fanOut) };
}

/** Shows one digit and adds its gradients to the trainers. */
function learn(
  classifier: Classifier,
  [hidden, output]: readonly [AdamLayer, AdamLayer],
  digit: Digit,
  recipe: Recipe,
  random: SeededRandom,
) {
  const image = Float64Array.from(random.next() < recipe.shifted ? moved(digit.pixels, random) : digit.pixels, (ink) => ink / inkMaximum);
  const active = apply(classifier.hidden, image).map((value) => Math.max(0, value));
  const error = softmax(apply(classifier.output, active));
  error[digit.label]! -= 1;
  output.add(active, error);
  const back = new Float64Array(classifier.hidden.out);
  for (let unit = 0; unit < back.length; unit += 1) {
    if (active[unit]! <= 0) continue;
    for (let label = 0; label < classes; label += 1) back[unit]! += error[label]! * classifier.output.weights[label * back.length + unit]!;
  }
  hidden.add(image, back);
}

function moved(pixels: readonly number[], random: SeededRandom): number[] {
  const right = random.below(3) - 1;
  const down = random.below(3) - 1;
  return pixels.map((_, index) => {
    const column = (index % 8) - right;
    const row = Math.floor(index / 8) - down;
    return column < 0 || column > 7 || row < 0 || row > 7 ? 0 : pixels[row * 8 + column]!;
  });
}

function apply(layer: Layer, from: Float64Array): Float64Array {
  const to = Float64Array.from(layer.bias);
  for (let out = 0; out < layer.out; out += 1) {
    let sum = 0;
    for (let at = 0; at < layer.in; at += 1) sum += layer.weights[out * layer.in + at]! * from[at]!;
    to[out]! += sum;
  }
  return to;
}

function softmax(scores: Float64Array): Float64Array {
  const highest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((left, right) => left + right, 0);
  return powers.map((power) => power / sum);
}

/** Sums the gradients of a batch for one layer and moves its weights (Adam with decoupled weight decay). */
class AdamLayer {
  readonly #layer: Layer;
  readonly #decay: number;
  readonly #gradient: Float64Array;
  readonly #mean: Float64Array;
  readonly #square: Float64Array;
  #steps = 0;

  constructor(layer: Layer, weightDecay: number) {
    this.#layer = layer;
    this.#decay = weightDecay;
    const size = layer.weights.length + layer.bias.length;
    this.#gradient = new Float64Array(size);
    this.#mean = new Float64Array(size);
    this.#square = new Float64Array(size);
  }

  add(from: Float64Array, error: Float64Array): void {
    const { in: width, out, weights } = this.#layer;
    for (let to = 0; to < out; to += 1) {
      if (error[to] === 0) continue;
      for (let at = 0; at < width; at += 1) this.#gradient[to * width + at]! += error[to]! * from[at]!;
      this.#gradient[weights.length + to]! += error[to]!;
    }
  }

  step(rate: number, batch: number): void {
    const { weights, bias } = this.#layer;
    this.#steps += 1;
    const meanScale = 1 / (1 - 0.9 ** this.#steps);
    const squareScale = 1 / (1 - 0.999 ** this.#steps);
    for (let at = 0; at < this.#gradient.length; at += 1) {
      const slope = this.#gradient[at]! / batch;
      this.#mean[at] = 0.9 * this.#mean[at]! + 0.1 * slope;
      this.#square[at] = 0.999 * this.#square[at]! + 0.001 * slope * slope;
      const change = (rate * this.#mean[at]! * meanScale) / (Math.sqrt(this.#square[at]! * squareScale) + 1e-8);
      if (at < weights.length) weights[at] = weights[at]! * (1 - rate * this.#decay) - change;
      else bias[at - weights.length]! -= change;
    }
    this.#gradient.fill(0);
  }
}

/** The ONNX file: `image` FP32 [-1,64] of 0–16 → `probabilities` FP32 [-1,10] and `label` INT64 [-1]. */
export function toOnnx({ hidden, output }: Classifier): Uint8Array {
  const graph = new GraphBuilder({ name: "digits" });
  const image = graph.input("image", "FP32", ["batch", inputs]);
  graph.output("probabilities", "FP32", ["batch", classes]);
  graph.output("label", "INT64", ["batch"]);
  const ink = graph.node("Mul", [image, graph.weight("ink_scale", [], new Float32Array([1 / inkMaximum]))]);
  const dense = (from: string, layer: Layer, name: string): string =>
    graph.node(
      "Gemm",
      [
        from,
        graph.weight(`${name}.weight`, [layer.out, layer.in], Float32Array.from(layer.weights)),
        graph.weight(`${name}.bias`, [layer.out], Float32Array.from(layer.bias)),
      ],
      { transB: { int: 1 } },
    );
  const scores = dense(graph.node("Relu", [dense(ink, hidden, "hidden")]), output, "output");
  graph.node("Softmax", [scores], { axis: { int: -1 } }, "probabilities");
  graph.node("ArgMax", ["probabilities"], { axis: { int: -1 }, keepdims: { int: 0 } }, "label");
  return graph.toBytes();
}
