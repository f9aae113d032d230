/**
 * Reads what Switchyard must know of an ONNX file: its signature, its operator sets and the files that hold its external weights.
 * It never looks into weights and never judges whether a runtime has the operators: only loading the model tells that.
 */

import { SwitchyardError } from "../errors.ts";
import type { ModelSignature, TensorSignature } from "../model.ts";
import { datatypeOfElement, elementTypeName } from "./element-types.ts";
import { MessageCursor } from "./message-cursor.ts";

export interface OnnxGraph {
  signature: ModelSignature;
  name: string;
  irVersion: number;
  /** Version of the default operator set; 0 when the graph imports only others. */
  opset: number;
  /** Every imported operator set by domain; the default one is "". */
  opsets: Record<string, number>;
  /** Files with external weights, as written (relative to the ONNX file's folder), each once, in name order. */
  externalFiles: string[];
}

/** An input or output as declared; `problem` says why it cannot be carried. */
interface DeclaredValue {
  name: string;
  tensor?: TensorSignature;
  problem?: string;
}

/** Subgraphs of If and Loop nest; nobody nests this deep, and a made-up file must not exhaust the stack. */
const deepestGraph = 32;

/**
 * @throws SwitchyardError `model_not_ready` when the bytes are no whole ONNX model, or when an input or output has a type
 * that onnxruntime-node cannot carry; the text names each such tensor and its type.
 */
export function readGraph(bytes: Uint8Array): OnnxGraph {
  const read = new GraphReading();
  try {
    read.model(MessageCursor.over(bytes));
  } catch (error) {
    throw notOnnx(bytes, error instanceof Error ? error.message : String(error));
  }
  if (!read.sawGraph || read.irVersion === 0) throw notOnnx(bytes, read.sawGraph ? "it has no ir_version" : "it has no graph");
  if (Object.keys(read.opsets).length === 0) throw notOnnx(bytes, "it imports no operator set");
  return read.result();
}

function notOnnx(bytes: Uint8Array, why: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", `not a whole ONNX model (${bytes.length} bytes): ${why}`);
}

class GraphReading {
  sawGraph = false;
  irVersion = 0;
  readonly opsets: Record<string, number> = Object.create(null);
  #name = "";
  readonly #inputs: DeclaredValue[] = [];
  readonly #outputs: DeclaredValue[] = [];
  readonly #initializers = new Set<string>();
  readonly #externalFiles = new Set<string>();

  model(model: MessageCursor): void {
    for (let field = model.next(); field !== 0; field = model.next()) {
      if (field === 1) this.irVersion = model.integer();
      else if (field === 7) {
        this.sawGraph = true;
        this.#graph(model.message(), 0);
      } else if (field === 8) this.#opset(model.message());
    }
  }

  result(): OnnxGraph {
    // An initializer of the same name gives an input its value, so that callers need not send it (all weights before IR version 4).
    const inputs = this.#inputs.filter((input) => !this.#initializers.has(input.name));
    const problems = [
      ...inputs.flatMap((input) => (input.problem ? [`input ${JSON.stringify(input.name)} ${input.problem}`] : [])),
      ...this.#outputs.flatMap((output) => (output.problem ? [`output ${JSON.stringify(output.name)} ${output.problem}`] : [])),
    ];
    if (problems.length > 0) throw new SwitchyardError("model_not_ready", problems.join("; "));
    return {
      signature: { inputs: inputs.map((input) => input.tensor!), outputs: this.#outputs.map((output) => output.tensor!) },
      name: this.#name,
      irVersion: this.irVersion,
      opset: this.opsets[""] ?? 0,
      opsets: { ...this.opsets },
      externalFiles: [...this.#externalFiles].sort(),
    };
  }

  #opset(opset: MessageCursor): void {
    let domain = "";
    let version = 0;
    for (let field = opset.next(); field !== 0; field = opset.next()) {
      if (field === 1) domain = opset.text();
      else if (field === 2) version = opset.integer();
    }
    this.opsets[domain === "ai.onnx" ? "" : domain] = version;
  }

  #graph(graph: MessageCursor, depth: number): void {
    if (depth > deepestGraph) throw new Error(`graphs nest deeper than ${deepestGraph}`);
    for (let field = graph.next(); field !== 0; field = graph.next()) {
      if (field === 1) this.#node(graph.message(), depth);
      else if (field === 5) this.#weight(graph.message(), depth);
      else if (field === 15) this.#sparseWeight(graph.message(), depth);
      else if (depth > 0) continue;
      else if (field === 2) this.#name = graph.text();
      else if (field === 11) this.#inputs.push(readValue(graph.message(), { isInput: true }));
      else if (field === 12) this.#outputs.push(readValue(graph.message(), { isInput: false }));
    }
  }

  /** Nodes matter only for constants and subgraphs in their attributes, which may keep weights in files. */
  #node(node: MessageCursor, depth: number): void {
    for (let field = node.next(); field !== 0; field = node.next()) {
      if (field !== 5) continue;
      const attribute = node.message();
      for (let part = attribute.next(); part !== 0; part = attribute.next()) {
        if (part === 5 || part === 10) this.#weight(attribute.message(), depth + 1);
        else if (part === 6 || part === 11) this.#graph(attribute.message(), depth + 1);
        else if (part === 22 || part === 23) this.#sparseWeight(attribute.message(), depth + 1);
      }
    }
  }

  #sparseWeight(sparse: MessageCursor, depth: number): void {
    for (let field = sparse.next(); field !== 0; field = sparse.next()) {
      if (field === 1) this.#weight(sparse.message(), depth);
      else if (field === 2) this.#weight(sparse.message(), depth + 1);
    }
  }

  /** Only the top graph's own weights (depth 0) can stand for an input. */
  #weight(tensor: MessageCursor, depth: number): void {
    for (let field = tensor.next(); field !== 0; field = tensor.next()) {
      if (field === 8 && depth === 0) this.#initializers.add(tensor.text());
      else if (field === 13) {
        const entry = tensor.message();
        let key = "";
        let value = "";
        for (let part = entry.next(); part !== 0; part = entry.next()) {
          if (part === 1) key = entry.text();
          else if (part === 2) value = entry.text();
        }
        if (key === "location") this.#externalFiles.add(value);
      }
    }
  }
}

const containers: Readonly<Record<number, string>> = {
  4: "a sequence",
  5: "a map",
  7: "an opaque value",
  8: "a sparse tensor",
  9: "an optional value",
};

function readValue(value: MessageCursor, of: { isInput: boolean }): DeclaredValue {
  const declared: DeclaredValue = { name: "" };
  let elementType = 0;
  let shape: Shape | undefined;
  for (let field = value.next(); field !== 0; field = value.next()) {
    if (field === 1) declared.name = value.text();
    if (field !== 2) continue;
    const type = value.message();
    for (let kind = type.next(); kind !== 0; kind = type.next()) {
      if (containers[kind]) declared.problem = `is ${containers[kind]}; only tensors can be carried`;
      if (kind !== 1) continue;
      const tensor = type.message();
      for (let part = tensor.next(); part !== 0; part = tensor.next()) {
        if (part === 1) elementType = tensor.integer();
        else if (part === 2) shape = readShape(tensor.message());
      }
    }
  }
  if (declared.problem) return declared;
  const datatype = datatypeOfElement(elementType);
  if (datatype === undefined) {
    declared.problem = elementType === 0 ? "has no tensor type" : `has type ${elementTypeName(elementType)}, which cannot be carried`;
  } else if (shape === undefined && of.isInput) {
    declared.problem = "has no shape; declare at least its number of axes";
  } else {
    const { sizes, names } = shape ?? { sizes: [], names: [] };
    declared.tensor = { name: declared.name, datatype, shape: sizes };
    if (names.some((name) => name !== null)) declared.tensor.axes = names;
  }
  return declared;
}

interface Shape {
  sizes: number[];
  names: (string | null)[];
}

function readShape(shape: MessageCursor): Shape {
  const sizes: number[] = [];
  const names: (string | null)[] = [];
  for (let field = shape.next(); field !== 0; field = shape.next()) {
    if (field !== 1) continue;
    const axis = shape.message();
    let size = -1;
    let name: string | null = null;
    for (let part = axis.next(); part !== 0; part = axis.next()) {
      // Some exporters write any negative number for a dynamic axis.
      if (part === 1) size = Math.max(-1, axis.integer());
      else if (part === 2) name = axis.text() || null;
    }
    sizes.push(size);
    names.push(name);
  }
  return { sizes, names };
}
