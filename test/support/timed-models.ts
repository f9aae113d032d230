/** Models whose runs take a time that a test chooses, written into a repository of its own. Answers depend on the input, so that they can be checked. */

import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { seededRandom } from "../../scripts/seeded-random.ts";

export interface Repository extends AsyncDisposable {
  readonly folder: string;
  /** Writes one version; `settings` is the text of the model's model.yaml. */
  add(model: string, graph: GraphBuilder | Uint8Array | string, how?: { version?: number; settings?: string }): Promise<void>;
  remove(): Promise<void>;
}

export async function emptyRepository(): Promise<Repository> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-models-"));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  return {
    folder,
    async add(model, graph, { version = 1, settings } = {}) {
      const home = path.join(folder, model, String(version));
      await mkdir(home, { recursive: true });
      if (settings !== undefined) await writeFile(path.join(folder, model, "model.yaml"), settings);
      // renamed when whole: a scan must not meet half a file
      const part = path.join(folder, model, `.part-${version}`);
      await writeFile(part, graph instanceof GraphBuilder ? graph.toBytes() : graph);
      await rename(part, path.join(home, "model.onnx"));
    },
    remove,
    [Symbol.asyncDispose]: remove,
  };
}

const rowWidth = 32;
const layerWidth = 768;

/**
 * `x` FP32 [-1,32] → `y` FP32 [-1,32] through `layers` equal layers: a batch of 8 takes some `layers` / 15 ms on one fast core. Wider layers take
 * longer, and the model loads no slower.
 */
export function layersModel(layers: number, width: number = layerWidth): GraphBuilder {
  const weights = layerWeights(width);
  const graph = new GraphBuilder({ name: "layers" });
  let last = graph.input("x", "FP32", ["batch", rowWidth]);
  graph.output("y", "FP32", ["batch", rowWidth]);
  const first = graph.weight("first", [rowWidth, width], weights.first);
  const middle = graph.weight("middle", [width, width], weights.middle);
  const end = graph.weight("end", [width, rowWidth], weights.end);
  last = graph.node("MatMul", [last, first]);
  for (let layer = 0; layer < layers; layer += 1) last = graph.node("MatMul", [graph.node("Tanh", [last]), middle]);
  graph.node("MatMul", [graph.node("Tanh", [last]), end], {}, "y");
  return graph;
}

type LayerWeights = Record<"first" | "middle" | "end", Float32Array>;
/** Made once: that takes longer than all else about a model. */
const weightsByWidth = new Map<number, LayerWeights>();

function layerWeights(width: number): LayerWeights {
  const known = weightsByWidth.get(width);
  if (known) return known;
  const random = seededRandom(11);
  const matrix = (rows: number, columns: number) => new Float32Array(rows * columns).map(() => random.normal() / Math.sqrt(rows));
  const made = { first: matrix(rowWidth, width), middle: matrix(width, width), end: matrix(width, rowWidth) };
  weightsByWidth.set(width, made);
  return made;
}

const sideOfSlow = 512;

/** A model like slowModel that runs for about `ms` on one core of this machine, as it is loaded now. */
export async function slowModelOf(ms: number): Promise<GraphBuilder> {
  const session = await InferenceSession.create(slowModel(40).toBytes(), { intraOpNumThreads: 1 });
  const run = async (): Promise<number> => {
    const startMs = performance.now();
    await session.run({ x: new Tensor("float32", new Float32Array([1]), [1]) });
    return performance.now() - startMs;
  };
  await run();
  const stepMs = Math.min(await run(), await run()) / 40;
  await session.release();
  return slowModel(Math.ceil(ms / stepMs));
}

/**
 * Variables of workers that make each run of a `slowModel` last for so long, whatever else this machine does, and without its machine time; with a gate
 * longer, for as long as there is such a file.
 */
export const slowRuns = (ms: number, gate?: string): Record<string, string> => ({
  NODE_OPTIONS: `--import=${new URL("slow-runs.ts", import.meta.url).href}`,
  SWITCHYARD_TEST_RUN_MS: String(ms),
  ...(gate !== undefined && { SWITCHYARD_TEST_RUN_WHILE: gate }),
});

export interface HeldRuns {
  /** Of the workers. */
  env: Record<string, string>;
  /** From now on no run of a `slowModel` ends. */
  hold(): Promise<void>;
  letGo(): Promise<void>;
}

/** Runs of a `slowModel` that last for as long as a test wants them to: what it does meanwhile, it does while they run, however slow this machine is. */
export function heldRuns({ folder }: Repository, leastMs = 0): HeldRuns {
  const file = path.join(folder, ".hold");
  return {
    env: { ...slowRuns(leastMs), SWITCHYARD_TEST_RUN_WHILE: file },
    hold: () => writeFile(file, ""),
    letGo: () => rm(file),
  };
}

let slowValues: Float32Array | undefined;

function valuesOfSlow(): Float32Array {
  const random = seededRandom(13);
  slowValues ??= Float32Array.from({ length: sideOfSlow ** 2 }, () => (2 * random.normal()) / Math.sqrt(sideOfSlow));
  return slowValues;
}

/**
 * `x` FP32 [1] → `y` FP32 [1], by `steps` products of matrices that depend on the input, so that nothing is computed at load. Only whole numbers take
 * their time: with the numbers that hosts warm models up with, the products have a single row.
 */
export function slowModel(steps: number): GraphBuilder {
  const graph = new GraphBuilder({ name: "slow" });
  const side = sideOfSlow;
  graph.input("x", "FP32", [1]);
  graph.output("y", "FP32", [1]);
  const matrix = graph.node("Tanh", [graph.node("Mul", [graph.weight("matrix", [side, side], valuesOfSlow()), "x"])]);
  const [none, one, all] = [0, 1, side].map((rows) => graph.weight(`rows ${rows}`, [1], BigInt64Array.of(BigInt(rows))));
  const rows = graph.node("Where", [graph.node("Equal", ["x", graph.node("Floor", ["x"])]), all!, one!]);
  let last = graph.node("Slice", [matrix, none!, rows, none!]);
  for (let step = 0; step < steps; step += 1) last = graph.node("Tanh", [graph.node("MatMul", [last, matrix])]);
  graph.node("ReduceMean", [graph.node("Flatten", [last], { axis: { int: 0 } })], { axes: { ints: [1] }, keepdims: { int: 0 } }, "y");
  return graph;
}

/** What the graph answers on its own, without queue and batches: rows in, rows out. */
export async function directRun(
  graph: GraphBuilder,
  rows: readonly Float32Array[],
  itemShape: readonly number[] = [1, rows[0]!.length],
): Promise<Float32Array[]> {
  const session = await InferenceSession.create(graph.toBytes(), { intraOpNumThreads: 1 });
  const answers: Float32Array[] = [];
  for (const row of rows) {
    const { y } = await session.run({ x: new Tensor("float32", row, itemShape) });
    answers.push(y!.data as Float32Array);
  }
  await session.release();
  return answers;
}

/** Rows of the width that layersModel takes. */
export function rowsOf(count: number): Float32Array[] {
  const random = seededRandom(17);
  return Array.from({ length: count }, () => Float32Array.from({ length: rowWidth }, () => random.normal()));
}

/** Largest distance of two rows. */
export function distance(left: Iterable<number>, right: ArrayLike<number>): number {
  let most = 0;
  let at = 0;
  for (const value of left) most = Math.max(most, Math.abs(value - (right[at++] ?? Number.NaN)));
  return at === right.length ? most : Number.POSITIVE_INFINITY;
}
