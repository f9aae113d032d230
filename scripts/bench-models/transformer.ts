/** A small encoder: 4 blocks of self-attention (4 heads) and a feed-forward layer, width 256, over 64 tokens. */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import type { SeededRandom } from "../seeded-random.ts";
import { biasWeight, heWeight } from "./random-weights.ts";

const tokens = 64;
const width = 256;
const heads = 4;
const feedForward = 1024;
const blocks = 4;

/** `input` FP32 [-1,64,256] → `embedding` FP32 [-1,256], the mean over the tokens. */
export function transformerModel(random: SeededRandom): Uint8Array {
  const graph = new GraphBuilder({ name: "transformer" });
  const input = graph.input("input", "FP32", ["batch", tokens, width]);
  graph.output("embedding", "FP32", ["batch", width]);
  // In a Reshape 0 keeps the axis, which leaves the batch dynamic.
  graph.weight("heads_shape", [4], BigInt64Array.of(0n, BigInt(tokens), BigInt(heads), BigInt(width / heads)));
  graph.weight("merged_shape", [3], BigInt64Array.of(0n, BigInt(tokens), BigInt(width)));
  graph.weight("attention_scale", [], Float32Array.of(1 / Math.sqrt(width / heads)));
  graph.weight("root_half", [], Float32Array.of(Math.SQRT1_2));
  graph.weight("half", [], Float32Array.of(0.5));
  graph.weight("one", [], Float32Array.of(1));
  let state = input;
  for (let block = 0; block < blocks; block += 1) {
    const part = new BlockPart(graph, random, `block${block}`);
    state = part.normalised("attention_norm", graph.node("Add", [state, part.attention(state)]));
    state = part.normalised("feed_forward_norm", graph.node("Add", [state, part.feedForward(state)]));
  }
  graph.node("ReduceMean", [state], { axes: { ints: [1] }, keepdims: { int: 0 } }, "embedding");
  return graph.toBytes();
}

class BlockPart {
  readonly #graph: GraphBuilder;
  readonly #random: SeededRandom;
  readonly #prefix: string;

  constructor(graph: GraphBuilder, random: SeededRandom, prefix: string) {
    this.#graph = graph;
    this.#random = random;
    this.#prefix = prefix;
  }

  attention(state: string): string {
    const graph = this.#graph;
    const query = this.#heads(this.#dense("query", state, width, width), [0, 2, 1, 3]);
    const key = this.#heads(this.#dense("key", state, width, width), [0, 2, 3, 1]);
    const value = this.#heads(this.#dense("value", state, width, width), [0, 2, 1, 3]);
    const scores = graph.node("Mul", [graph.node("MatMul", [query, key]), "attention_scale"]);
    const mixed = graph.node("MatMul", [graph.node("Softmax", [scores], { axis: { int: -1 } }), value]);
    const merged = graph.node("Reshape", [graph.node("Transpose", [mixed], { perm: { ints: [0, 2, 1, 3] } }), "merged_shape"]);
    return this.#dense("attention_output", merged, width, width);
  }

  feedForward(state: string): string {
    const wide = this.#dense("feed_forward_in", state, width, feedForward);
    return this.#dense("feed_forward_out", this.#gelu(wide), feedForward, width);
  }

  normalised(name: string, state: string): string {
    const graph = this.#graph;
    const scale = graph.weight(`${this.#prefix}.${name}.scale`, [width], new Float32Array(width).fill(1));
    return graph.node("LayerNormalization", [state, scale, biasWeight(graph, this.#random, `${this.#prefix}.${name}.bias`, width)], {
      axis: { int: -1 },
    });
  }

  #heads(state: string, order: number[]): string {
    return this.#graph.node("Transpose", [this.#graph.node("Reshape", [state, "heads_shape"])], { perm: { ints: order } });
  }

  #dense(name: string, from: string, fanIn: number, fanOut: number): string {
    const weight = heWeight(this.#graph, this.#random, {
      name: `${this.#prefix}.${name}.weight`,
      dims: [fanIn, fanOut],
      fanIn,
      gain: Math.SQRT1_2,
    });
    const bias = biasWeight(this.#graph, this.#random, `${this.#prefix}.${name}.bias`, fanOut);
    return this.#graph.node("Add", [this.#graph.node("MatMul", [from, weight]), bias]);
  }

  /** x/2 · (1 + erf(x/√2)), in the operators that exports use and runtimes fuse. */
  #gelu(state: string): string {
    const graph = this.#graph;
    const raised = graph.node("Add", [graph.node("Erf", [graph.node("Mul", [state, "root_half"])]), "one"]);
    return graph.node("Mul", [graph.node("Mul", [state, raised]), "half"]);
  }
}
