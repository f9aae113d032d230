/** A model whose answers tell which job they belong to, and that is exact in FP32: whatever is mixed up on the way shows in the numbers. */

import { GraphBuilder } from "@switchyard/protocol/onnx";

export const deviceModelName = "device";
const factors = [2, 3, 5, 7];
/** In the second place of every row that a client sends; warm-up runs have none. */
export const rowMark = 12345;

/** Large enough for a thread of its own, where a host has cores to spare: it then claims a batch ahead of the end of each run. */
const ballast = new Float32Array(1_100_000).fill(1);

/** `x` FP32 [-1,4] → `y` FP32 [-1,4]. */
export function deviceGraph(): GraphBuilder {
  const graph = new GraphBuilder({ name: deviceModelName });
  graph.input("x", "FP32", ["batch", factors.length]);
  graph.output("y", "FP32", ["batch", factors.length]);
  const scaled = graph.node("Mul", ["x", graph.weight("factors", [factors.length], Float32Array.from(factors))]);
  const one = graph.node("ReduceMin", [graph.weight("ballast", [ballast.length], ballast)]);
  graph.node("Add", [scaled, one], {}, "y");
  return graph;
}

/** The row of one job; numbers stay exact below 2²³. */
export function rowOf(number: number): number[] {
  return [number, rowMark, number % 89, number % 97];
}

/** Of the job whose answer it is. */
export function numberIn(answer: readonly number[]): number {
  return (answer[0]! - 1) / factors[0]!;
}

export function answerTo(number: number): number[] {
  return rowOf(number).map((value, at) => Math.fround(value * factors[at]! + 1));
}
