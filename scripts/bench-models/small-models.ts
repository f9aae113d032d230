/** Models whose run costs next to nothing, so that benches measure the way there and back. */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import type { SeededRandom } from "../seeded-random.ts";
import { biasWeight, heWeight } from "./random-weights.ts";

/** `input` FP32 [-1,784] → 128 → `probabilities` FP32 [-1,10]. */
export function mlpModel(random: SeededRandom): Uint8Array {
  const graph = new GraphBuilder({ name: "mlp" });
  const input = graph.input("input", "FP32", ["batch", 784]);
  graph.output("probabilities", "FP32", ["batch", 10]);
  const dense = (from: string, name: string, [fanIn, fanOut]: [number, number]): string =>
    graph.node("Gemm", [
      from,
      heWeight(graph, random, { name: `${name}.weight`, dims: [fanIn, fanOut], fanIn }),
      biasWeight(graph, random, `${name}.bias`, fanOut),
    ]);
  const hidden = graph.node("Relu", [dense(input, "hidden", [784, 128])]);
  graph.node("Softmax", [dense(hidden, "output", [128, 10])], { axis: { int: -1 } }, "probabilities");
  return graph.toBytes();
}

/** `input` FP32 [-1,4] → `output` FP32 [-1,4], the input plus a bias; under 1 kB, for repositories of thousands. */
export function tinyModel(random: SeededRandom): Uint8Array {
  const graph = new GraphBuilder({ name: "tiny" });
  const input = graph.input("input", "FP32", ["batch", 4]);
  graph.output("output", "FP32", ["batch", 4]);
  graph.node("Add", [input, biasWeight(graph, random, "bias", 4)], {}, "output");
  return graph.toBytes();
}

/** `input` FP32 [-1,1,65536] → `average` FP32 [-1,1,1], 10,000 times the average: 256 KiB of input for each item, and little to do with it. */
export function averageModel(): Uint8Array {
  const graph = new GraphBuilder({ name: "average" });
  const input = graph.input("input", "FP32", ["batch", 1, 65_536]);
  graph.output("average", "FP32", ["batch", 1, 1]);
  const scale = graph.weight("scale", [1], Float32Array.of(10_000));
  graph.node("Mul", [graph.node("GlobalAveragePool", [input]), scale], {}, "average");
  return graph.toBytes();
}
