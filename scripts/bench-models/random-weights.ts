/** Weights of a network that nobody trained, scaled so that values stay of one size from layer to layer. */

import type { GraphBuilder } from "@switchyard/protocol/onnx";
import type { SeededRandom } from "../seeded-random.ts";

/** Adds a weight of variance 2 / fanIn (He), times gain². Uniform rather than normal numbers: as good here, and much faster to draw. */
export function heWeight(
  graph: GraphBuilder,
  random: SeededRandom,
  weight: { name: string; dims: number[]; fanIn: number; gain?: number },
): string {
  const limit = Math.sqrt(6 / weight.fanIn) * (weight.gain ?? 1);
  return graph.weight(weight.name, weight.dims, uniform(random, product(weight.dims), limit));
}

/** A small bias, so that no path through the network is dead. */
export function biasWeight(graph: GraphBuilder, random: SeededRandom, name: string, size: number): string {
  return graph.weight(name, [size], uniform(random, size, 0.1));
}

function uniform(random: SeededRandom, size: number, limit: number): Float32Array {
  const values = new Float32Array(size);
  for (let at = 0; at < size; at += 1) values[at] = (2 * random.next() - 1) * limit;
  return values;
}

function product(dims: readonly number[]): number {
  return dims.reduce((left, right) => left * right, 1);
}
