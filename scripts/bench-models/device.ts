/**
 * A graph that keeps a device busy for a time that is chosen: nearly all of a run is a chain of matrix products that does not depend on how
 * many items are stacked, so a run costs the same whatever its batch. Its matrices fit a core's own cache: what other cores do slows it little.
 */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import type { SeededRandom } from "../seeded-random.ts";
import { biasWeight, heWeight } from "./random-weights.ts";

const side = 192;
const width = 64;
const itemSteps = 4;
const classes = 10;

/** `input` FP32 [-1,64] → `probabilities` FP32 [-1,10], after `steps` products of 192 × 192 matrices, whatever the batch. */
export function deviceModel(random: SeededRandom, steps: number): Uint8Array {
  const graph = new GraphBuilder({ name: "device" });
  const input = graph.input("input", "FP32", ["batch", width]);
  graph.output("probabilities", "FP32", ["batch", classes]);
  let state = input;
  for (let step = 0; step < itemSteps; step += 1) {
    const weight = heWeight(graph, random, { name: `item${step}.weight`, dims: [width, width], fanIn: width, gain: Math.SQRT1_2 });
    state = graph.node("Tanh", [graph.node("MatMul", [state, weight])]);
  }
  const scores = graph.node("Gemm", [
    state,
    heWeight(graph, random, { name: "output.weight", dims: [width, classes], fanIn: width }),
    biasWeight(graph, random, "output.bias", classes),
  ]);
  const shifted = graph.node("Add", [
    graph.node("Mul", [scores, graph.weight("sharpness", [], Float32Array.of(3))]),
    chain(graph, random, input, steps),
  ]);
  graph.node("Softmax", [shifted], { axis: { int: -1 } }, "probabilities");
  return graph.toBytes();
}

/**
 * One number, the same in every run. The runtime cannot know it when it loads the graph: it comes from the batch divided by itself. Softmax
 * takes no notice of what is added to all scores alike.
 */
function chain(graph: GraphBuilder, random: SeededRandom, input: string, steps: number): string {
  const batch = graph.node("Cast", [graph.node("Size", [input])], { to: { int: 1 } });
  const one = graph.node("Div", [batch, batch]);
  const matrix = graph.node("Mul", [heWeight(graph, random, { name: "chain.weight", dims: [side, side], fanIn: side }), one]);
  let last = matrix;
  for (let step = 0; step < steps; step += 1) last = graph.node("Tanh", [graph.node("MatMul", [last, matrix])]);
  return graph.node("ReduceMean", [graph.node("Flatten", [last], { axis: { int: 0 } })], { axes: { ints: [1] }, keepdims: { int: 0 } });
}
