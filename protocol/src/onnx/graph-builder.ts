/** Puts an ONNX graph together node by node; each step answers the name of what it made, to be used as an input of the next. */

import type { Datatype } from "../tensors.ts";
import { type OnnxAttribute, type OnnxNode, type OnnxValue, type OnnxWeight, writeModel } from "./graph-writer.ts";

/** Operator set and file format that every supported runtime reads. */
const defaultOpset = 17;
const defaultIrVersion = 8;

export type WeightValues = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

export class GraphBuilder {
  readonly #name: string;
  readonly #opset: number;
  readonly #nodes: OnnxNode[] = [];
  readonly #weights: OnnxWeight[] = [];
  readonly #inputs: OnnxValue[] = [];
  readonly #outputs: OnnxValue[] = [];

  constructor(graph: { name: string; opset?: number }) {
    this.#name = graph.name;
    this.#opset = graph.opset ?? defaultOpset;
  }

  /** A string axis is symbolic, -1 dynamic without a name. */
  input(name: string, type: OnnxValue["type"], shape?: readonly (number | string)[], container?: OnnxValue["container"]): string {
    this.#inputs.push(value(name, type, shape, container));
    return name;
  }

  output(name: string, type: OnnxValue["type"], shape?: readonly (number | string)[], container?: OnnxValue["container"]): string {
    this.#outputs.push(value(name, type, shape, container));
    return name;
  }

  /** A weight inside the file. */
  weight(name: string, dims: number[], values: WeightValues): string {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#weights.push({ name, datatype: datatypeOf(values), dims, bytes });
    return name;
  }

  /** A weight whose bytes lie in another file of the ONNX file's folder. */
  externalWeight(name: string, weight: { datatype: Datatype; dims: number[] } & NonNullable<OnnxWeight["external"]>): string {
    const { datatype, dims, ...external } = weight;
    this.#weights.push({ name, datatype, dims, bytes: new Uint8Array(0), external });
    return name;
  }

  /** Adds a node with one output, called `output` or after the node's number, and answers that name. */
  node(op: string, inputs: string[], attributes: Record<string, OnnxAttribute> = {}, output?: string): string {
    const made = output ?? `${op}_${this.#nodes.length}`;
    this.nodes(op, inputs, [made], attributes);
    return made;
  }

  /** Adds a node with several outputs. */
  nodes(op: string, inputs: string[], outputs: string[], attributes: Record<string, OnnxAttribute> = {}): void {
    this.#nodes.push({ op, name: `${op}_node_${this.#nodes.length}`, inputs, outputs, attributes });
  }

  /** The finished ONNX file. */
  toBytes(): Uint8Array {
    return writeModel({
      irVersion: defaultIrVersion,
      producer: "switchyard",
      opsets: { "": this.#opset },
      graph: { name: this.#name, nodes: this.#nodes, weights: this.#weights, inputs: this.#inputs, outputs: this.#outputs },
    });
  }
}

function value(name: string, type: OnnxValue["type"], shape?: readonly (number | string)[], container?: OnnxValue["container"]): OnnxValue {
  return { name, type, ...(shape ? { shape } : {}), ...(container ? { container } : {}) };
}

function datatypeOf(values: WeightValues): Datatype {
  if (values instanceof Float32Array) return "FP32";
  if (values instanceof Float64Array) return "FP64";
  if (values instanceof Int32Array) return "INT32";
  if (values instanceof BigInt64Array) return "INT64";
  return "UINT8";
}
