/** Writes ONNX files: a model with one graph, its nodes, weights and declared values. Built with graph-builder.ts. */

import protobuf from "protobufjs/minimal.js";
import type { Datatype } from "../tensors.ts";
import { elementTypeCode } from "./element-types.ts";

export interface OnnxWeight {
  name: string;
  datatype: Datatype;
  dims: number[];
  /** Little-endian, row-major. Ignored when the weight lies in another file. */
  bytes: Uint8Array;
  /** The file that holds the bytes, relative to the ONNX file's folder. */
  external?: { location: string; offset?: number; length?: number };
}

/** One attribute of a node, by kind. */
export type OnnxAttribute =
  | { int: number }
  | { float: number }
  | { text: string }
  | { ints: readonly number[] }
  | { floats: readonly number[] }
  | { tensor: OnnxWeight }
  | { graph: OnnxGraphParts };

export interface OnnxNode {
  op: string;
  name: string;
  /** Operator domain; absent for ONNX's own. */
  domain?: string;
  inputs: string[];
  outputs: string[];
  attributes: Record<string, OnnxAttribute>;
}

/** A declared input or output. A string axis is symbolic; -1 is dynamic without a name; no shape leaves the rank open. */
export interface OnnxValue {
  name: string;
  /** A datatype that travels, or the bare number of another ONNX element type. */
  type: Datatype | number;
  shape?: readonly (number | string)[];
  /** What wraps the tensor type; plain tensors by default. */
  container?: "sequence" | "map" | "sparse" | "optional";
}

export interface OnnxGraphParts {
  name: string;
  nodes: OnnxNode[];
  weights: OnnxWeight[];
  inputs: OnnxValue[];
  outputs: OnnxValue[];
}

export interface OnnxModel {
  irVersion: number;
  producer: string;
  /** Operator set versions by domain; "" is ONNX's own. */
  opsets: Record<string, number>;
  graph: OnnxGraphParts;
}

type Writer = protobuf.Writer;

export function writeModel(model: OnnxModel): Uint8Array {
  const out = protobuf.Writer.create();
  integer(out, 1, model.irVersion);
  text(out, 2, model.producer);
  message(out, 7, () => writeGraph(out, model.graph));
  for (const [domain, version] of Object.entries(model.opsets)) {
    message(out, 8, () => {
      if (domain !== "") text(out, 1, domain);
      integer(out, 2, version);
    });
  }
  return out.finish();
}

function writeGraph(out: Writer, graph: OnnxGraphParts): void {
  for (const node of graph.nodes) message(out, 1, () => writeNode(out, node));
  text(out, 2, graph.name);
  for (const weight of graph.weights) message(out, 5, () => writeWeight(out, weight));
  for (const input of graph.inputs) message(out, 11, () => writeValue(out, input));
  for (const output of graph.outputs) message(out, 12, () => writeValue(out, output));
}

function writeNode(out: Writer, node: OnnxNode): void {
  for (const input of node.inputs) text(out, 1, input);
  for (const output of node.outputs) text(out, 2, output);
  text(out, 3, node.name);
  text(out, 4, node.op);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    message(out, 5, () => {
      text(out, 1, name);
      writeAttribute(out, attribute);
    });
  }
  if (node.domain) text(out, 7, node.domain);
}

/** Field 20 names the kind; readers refuse an attribute without it. */
function writeAttribute(out: Writer, attribute: OnnxAttribute): void {
  if ("float" in attribute) {
    out.uint32(tag(2, 5)).float(attribute.float);
    integer(out, 20, 1);
  } else if ("int" in attribute) {
    integer(out, 3, attribute.int);
    integer(out, 20, 2);
  } else if ("text" in attribute) {
    text(out, 4, attribute.text);
    integer(out, 20, 3);
  } else if ("tensor" in attribute) {
    message(out, 5, () => writeWeight(out, attribute.tensor));
    integer(out, 20, 4);
  } else if ("graph" in attribute) {
    message(out, 6, () => writeGraph(out, attribute.graph));
    integer(out, 20, 5);
  } else if ("floats" in attribute) {
    for (const value of attribute.floats) out.uint32(tag(7, 5)).float(value);
    integer(out, 20, 6);
  } else {
    for (const value of attribute.ints) integer(out, 8, value);
    integer(out, 20, 7);
  }
}

function writeWeight(out: Writer, weight: OnnxWeight): void {
  for (const axis of weight.dims) integer(out, 1, axis);
  integer(out, 2, elementTypeCode(weight.datatype));
  text(out, 8, weight.name);
  if (!weight.external) {
    out.uint32(tag(9, 2)).bytes(weight.bytes);
    return;
  }
  for (const [key, value] of Object.entries(weight.external)) {
    message(out, 13, () => {
      text(out, 1, key);
      text(out, 2, String(value));
    });
  }
  integer(out, 14, 1);
}

const containerFields = { sequence: 4, map: 5, sparse: 8, optional: 9 } as const;
const int64Code = elementTypeCode("INT64");

function writeValue(out: Writer, value: OnnxValue): void {
  text(out, 1, value.name);
  message(out, 2, () => {
    const { container } = value;
    if (container === undefined) return writeTensorType(out, 1, value);
    message(out, containerFields[container], () => {
      if (container === "sparse") return writeTensorTypeFields(out, value);
      // Sequences and optional values hold a type in field 1; a map its key's element type there and its value's type in field 2.
      if (container === "map") integer(out, 1, int64Code);
      message(out, container === "map" ? 2 : 1, () => writeTensorType(out, 1, value));
    });
  });
}

function writeTensorType(out: Writer, field: number, value: OnnxValue): void {
  message(out, field, () => writeTensorTypeFields(out, value));
}

function writeTensorTypeFields(out: Writer, value: OnnxValue): void {
  integer(out, 1, typeof value.type === "number" ? value.type : elementTypeCode(value.type));
  const { shape } = value;
  if (shape === undefined) return;
  message(out, 2, () => {
    for (const axis of shape) {
      message(out, 1, () => {
        if (typeof axis === "string") text(out, 2, axis);
        else if (axis >= 0) integer(out, 1, axis);
      });
    }
  });
}

function tag(field: number, wireType: number): number {
  return (field << 3) | wireType;
}

function integer(out: Writer, field: number, value: number): void {
  out.uint32(tag(field, 0)).int64(value);
}

function text(out: Writer, field: number, value: string): void {
  out.uint32(tag(field, 2)).string(value);
}

function message(out: Writer, field: number, write: () => void): void {
  out.uint32(tag(field, 2)).fork();
  write();
  out.ldelim();
}
