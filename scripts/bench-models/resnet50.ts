/** A graph of ResNet-50's shape and cost: bottleneck blocks 3-4-6-3, batch normalisation folded into the convolutions. About 100 MB. */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import type { SeededRandom } from "../seeded-random.ts";
import { biasWeight, heWeight } from "./random-weights.ts";

const stages = [
  { blocks: 3, width: 64, stride: 1 },
  { blocks: 4, width: 128, stride: 2 },
  { blocks: 6, width: 256, stride: 2 },
  { blocks: 3, width: 512, stride: 2 },
];
const expansion = 4;
const classes = 1000;

/** `input` FP32 [-1,3,224,224] → `probabilities` FP32 [-1,1000]. */
export function resnet50Model(random: SeededRandom): Uint8Array {
  const graph = new GraphBuilder({ name: "resnet50" });
  const input = graph.input("input", "FP32", ["batch", 3, 224, 224]);
  graph.output("probabilities", "FP32", ["batch", classes]);
  const stem = graph.node("Relu", [convolution(graph, random, input, { name: "stem", from: 3, to: 64, kernel: 7, stride: 2 })]);
  let state = graph.node("MaxPool", [stem], { kernel_shape: { ints: [3, 3] }, strides: { ints: [2, 2] }, pads: { ints: [1, 1, 1, 1] } });
  let channels = 64;
  stages.forEach((stage, stageIndex) => {
    for (let block = 0; block < stage.blocks; block += 1) {
      const stride = block === 0 ? stage.stride : 1;
      state = bottleneck(graph, random, state, { name: `stage${stageIndex}.block${block}`, from: channels, width: stage.width, stride });
      channels = stage.width * expansion;
    }
  });
  const pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [state])]);
  const weight = heWeight(graph, random, { name: "classes.weight", dims: [channels, classes], fanIn: channels });
  const scores = graph.node("Gemm", [pooled, weight, biasWeight(graph, random, "classes.bias", classes)]);
  graph.node("Softmax", [scores], { axis: { int: -1 } }, "probabilities");
  return graph.toBytes();
}

interface Bottleneck {
  name: string;
  from: number;
  width: number;
  stride: number;
}

function bottleneck(graph: GraphBuilder, random: SeededRandom, state: string, { name, from, width, stride }: Bottleneck): string {
  const to = width * expansion;
  const relu = (of: string): string => graph.node("Relu", [of]);
  const narrow = relu(convolution(graph, random, state, { name: `${name}.narrow`, from, to: width, kernel: 1, stride: 1 }));
  const middle = relu(convolution(graph, random, narrow, { name: `${name}.middle`, from: width, to: width, kernel: 3, stride }));
  // The low gain keeps sixteen summed blocks from growing without bound, as trained normalisation does.
  const wide = convolution(graph, random, middle, { name: `${name}.wide`, from: width, to, kernel: 1, stride: 1, gain: 0.3 });
  const kept =
    from === to && stride === 1 ? state : convolution(graph, random, state, { name: `${name}.kept`, from, to, kernel: 1, stride });
  return relu(graph.node("Add", [wide, kept]));
}

interface Convolution {
  name: string;
  from: number;
  to: number;
  kernel: number;
  stride: number;
  gain?: number;
}

function convolution(graph: GraphBuilder, random: SeededRandom, state: string, of: Convolution): string {
  const { name, from, to, kernel, stride, gain = 1 } = of;
  const weight = heWeight(graph, random, { name: `${name}.weight`, dims: [to, from, kernel, kernel], fanIn: from * kernel * kernel, gain });
  const pad = (kernel - 1) / 2;
  return graph.node("Conv", [state, weight, biasWeight(graph, random, `${name}.bias`, to)], {
    kernel_shape: { ints: [kernel, kernel] },
    strides: { ints: [stride, stride] },
    pads: { ints: [pad, pad, pad, pad] },
  });
}
