/** Model repositories made for a test: built graphs become versions on disk, and recorded tensors (TensorProto) are read back. */

import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { elementBytes, encodeBytesElements, type ModelConfig, type ModelVersion, type Tensor } from "@switchyard/protocol";
import { datatypeOfElement, GraphBuilder, readGraph } from "@switchyard/protocol/onnx";
import { seededRandom } from "../../scripts/seeded-random.ts";

export interface ModelFolder {
  root: string;
  /** Writes the graph as version 1 of `model` and answers its registry entry. */
  add(model: string, graph: GraphBuilder | Uint8Array, config?: ModelConfig): Promise<ModelVersion>;
  remove(): Promise<void>;
}

export async function modelFolder(): Promise<ModelFolder> {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-models-"));
  return {
    root,
    async add(model, graph, config = {}) {
      const bytes = graph instanceof GraphBuilder ? graph.toBytes() : graph;
      await mkdir(path.join(root, model, "1"), { recursive: true });
      await writeFile(path.join(root, model, "1", "model.onnx"), bytes);
      return versionOf(root, `${model}/1/model.onnx`, config);
    },
    remove: () => rm(root, { recursive: true, force: true }),
  };
}

/** The registry entry of an ONNX file without external weights, `file` being its path below `root`. */
export async function versionOf(root: string, file: string, config: ModelConfig = {}): Promise<ModelVersion> {
  const bytes = await readFile(path.join(root, file));
  const digest = createHash("sha256").update(bytes).digest("hex");
  const { signature } = readGraph(bytes);
  return { model: file.split("/")[0]!, version: 1, digest, tag: "0000000000", sizeBytes: bytes.length, path: file, signature, config };
}

/** A multilayer perceptron with seeded weights: `x` FP32 [-1, sizes[0]] → `y` FP32 [-1, last size]. */
export function perceptron(sizes: readonly number[]): GraphBuilder {
  const random = seededRandom(7);
  const graph = new GraphBuilder({ name: "perceptron" });
  graph.input("x", "FP32", ["batch", sizes[0]!]);
  graph.output("y", "FP32", ["batch", sizes.at(-1)!]);
  let last = "x";
  for (let layer = 1; layer < sizes.length; layer += 1) {
    const dims = [sizes[layer - 1]!, sizes[layer]!];
    const values = Float32Array.from({ length: dims[0]! * dims[1]! }, () => random.normal() / Math.sqrt(dims[0]!));
    const isLast = layer === sizes.length - 1;
    last = graph.node("MatMul", [last, graph.weight(`w${layer}`, dims, values)], {}, isLast ? "y" : undefined);
    if (!isLast) last = graph.node("Relu", [last]);
  }
  return graph;
}

/** A serialised TensorProto; undefined when it is none (a sequence, say) or has a type that is not carried. */
export function readTensorProto(bytes: Uint8Array): Tensor | undefined {
  const shape: number[] = [];
  const parts = new Map<number, Uint8Array[]>();
  let elementType = 0;
  let name = "";
  for (const { field, value } of protoFields(bytes)) {
    if (field === 1) shape.push(...(typeof value === "bigint" ? [Number(value)] : varints(value).map(Number)));
    else if (field === 2 && typeof value === "bigint") elementType = Number(value);
    else if (field === 8 && typeof value !== "bigint") name = Buffer.from(value).toString();
    else if (typeof value === "bigint") (parts.get(field) ?? parts.set(field, []).get(field)!).push(varintBytes(value));
    else (parts.get(field) ?? parts.set(field, []).get(field)!).push(value);
  }
  const datatype = datatypeOfElement(elementType);
  if (datatype === undefined) return undefined;
  const raw = parts.get(9)?.[0];
  if (datatype === "BYTES") return { name, datatype, shape, bytes: encodeBytesElements(parts.get(6) ?? []) };
  if (raw) return { name, datatype, shape, bytes: new Uint8Array(raw) };
  // float_data and double_data are laid out as the tensor is; the integer fields hold one varint per element.
  const laidOut = parts.get(4) ?? parts.get(10);
  if (laidOut) return { name, datatype, shape, bytes: new Uint8Array(Buffer.concat(laidOut)) };
  const integers = varints(Buffer.concat(parts.get(5) ?? parts.get(7) ?? parts.get(11) ?? []));
  const width = elementBytes[datatype];
  const packed = new Uint8Array(integers.length * width);
  for (const [index, integer] of integers.entries()) {
    for (let byte = 0; byte < width; byte += 1) packed[index * width + byte] = Number((integer >> BigInt(8 * byte)) & 0xffn);
  }
  return { name, datatype, shape, bytes: packed };
}

function* protoFields(bytes: Uint8Array): Generator<{ field: number; value: Uint8Array | bigint }> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const field = tag >>> 3;
    const wireType = tag & 7;
    if (wireType === 0) yield { field, value: varint() };
    else {
      const size = wireType === 2 ? Number(varint()) : wireType === 1 ? 8 : 4;
      yield { field, value: bytes.subarray(at, at + size) };
      at += size;
    }
  }
}

function varints(bytes: Uint8Array): bigint[] {
  const values: bigint[] = [];
  let value = 0n;
  let shift = 0n;
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte >= 0x80) continue;
    values.push(BigInt.asIntN(64, value));
    value = 0n;
    shift = 0n;
  }
  return values;
}

function varintBytes(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}
