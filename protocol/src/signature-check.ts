/**
 * Whether a request's tensors are what the model's graph asks for, and which jobs may run stacked with it. Refuses with
 * `signature_mismatch`, whose fields say what was expected and what came. Cheap: one pass, no allocation per axis.
 */

import { requireNumbers } from "./classification.ts";
import type { RequestedOutput } from "./infer-request.ts";
import type { ModelSignature, TensorSignature } from "./model.ts";
import { refuse, shown, told } from "./request-fault.ts";
import { elementBytes, elementCount, type Tensor } from "./tensors.ts";

export interface CheckedInputs {
  /** The tensors in the signature's order, which is the order in which batches are stacked. */
  inputs: Tensor[];
  /** Size of axis 0, at least 1; 1 where the inputs are not stackable. */
  items: number;
  /** Whether the inputs share an axis 0 of at least 1 that is dynamic in the graph. Says nothing of whether stacking is right. */
  stackable: boolean;
  /**
   * Names, datatypes and shapes without axis 0: jobs of equal class can be stacked on axis 0. Begins with "=" and holds whole shapes
   * where the inputs are not stackable; such jobs run apart, whatever their class.
   */
  shapeClass: string;
}

/** Throws `signature_mismatch`; pointers are those of the request as it came. */
export function checkInputs(tensors: readonly Tensor[], signature: ModelSignature): CheckedInputs {
  const inputs = inSignatureOrder(tensors, signature);
  const sizes = new Map<string, { size: number; input: string }>();
  let items = -1;
  let stackable = inputs.length > 0;
  for (let index = 0; index < inputs.length; index++) {
    const tensor = inputs[index]!;
    const wanted = signature.inputs[index]!;
    checkTensor(tensor, wanted, tensors);
    if (wanted.axes !== undefined) checkSharedAxes(tensor, wanted.axes, sizes, tensors);
    if (tensor.shape.length === 0 || wanted.shape[0] !== -1 || (items >= 0 && tensor.shape[0] !== items)) stackable = false;
    else items = tensor.shape[0]!;
  }
  stackable &&= items > 0;
  return { inputs, items: stackable ? items : 1, stackable, shapeClass: shapeClassOf(inputs, stackable) };
}

function shapeClassOf(inputs: readonly Tensor[], stackable: boolean): string {
  let shapeClass = stackable ? "" : "=";
  for (const tensor of inputs) {
    shapeClass += `${tensor.name} ${tensor.datatype}`;
    for (let axis = stackable ? 1 : 0; axis < tensor.shape.length; axis++) shapeClass += ` ${tensor.shape[axis]}`;
    shapeClass += ";";
  }
  return shapeClass;
}

function inSignatureOrder(tensors: readonly Tensor[], signature: ModelSignature): Tensor[] {
  for (const tensor of tensors) {
    if (signature.inputs.some((wanted) => wanted.name === tensor.name)) continue;
    const names = signature.inputs.map((wanted) => wanted.name).join(", ");
    const detail = `unexpected additional input data for model: it has no input '${shown(tensor.name)}', its inputs are ${names}`;
    throw mismatch(`${pointerOf(tensor, tensors)}/name`, names, JSON.stringify(shown(tensor.name)), detail);
  }
  return signature.inputs.map((wanted) => {
    const found = tensors.filter((tensor) => tensor.name === wanted.name);
    if (found.length === 1) return found[0]!;
    const came = found.length === 0 ? "nothing" : `${found.length} tensors of that name`;
    const detail = found.length === 0 ? `Input '${wanted.name}' is missing` : `Input '${wanted.name}' already exists in request`;
    throw mismatch("/inputs", `${wanted.name}: ${typeOf(wanted)}`, came, detail);
  });
}

function checkTensor(tensor: Tensor, wanted: TensorSignature, all: readonly Tensor[]): void {
  if (tensor.datatype !== wanted.datatype) {
    const detail = `Input '${wanted.name}' must be ${typeOf(wanted)}, got ${typeOf(tensor)}`;
    throw mismatch(`${pointerOf(tensor, all)}/datatype`, typeOf(wanted), typeOf(tensor), detail);
  }
  let fits = tensor.shape.length === wanted.shape.length;
  for (let axis = 0; fits && axis < tensor.shape.length; axis++) {
    const size = wanted.shape[axis]!;
    fits = size < 0 ? tensor.shape[axis]! >= 0 : tensor.shape[axis] === size;
  }
  if (!fits) {
    const detail = `Input '${wanted.name}' must have the shape ${typeOf(wanted)}, got ${typeOf(tensor)}`;
    throw mismatch(`${pointerOf(tensor, all)}/shape`, typeOf(wanted), typeOf(tensor), detail);
  }
  const width = elementBytes[tensor.datatype];
  if (width > 0 && elementCount(tensor.shape) * width !== tensor.bytes.length) {
    const expected = `${elementCount(tensor.shape)} elements of ${width} bytes`;
    const detail = `Input '${wanted.name}': ${typeOf(tensor)} takes ${expected}, got ${tensor.bytes.length} bytes`;
    throw mismatch(pointerOf(tensor, all), expected, `${tensor.bytes.length} bytes`, detail);
  }
}

/** Axes of one name have one size, within an input and across inputs. */
function checkSharedAxes(
  tensor: Tensor,
  axes: readonly (string | null)[],
  sizes: Map<string, { size: number; input: string }>,
  all: readonly Tensor[],
): void {
  for (let axis = 0; axis < tensor.shape.length; axis++) {
    const name = axes[axis];
    if (name === undefined || name === null) continue;
    const size = tensor.shape[axis]!;
    const known = sizes.get(name);
    if (known === undefined) sizes.set(name, { size, input: tensor.name });
    else if (known.size !== size) {
      const detail = `Axis '${name}' is ${known.size} in input '${known.input}' but ${size} in input '${tensor.name}'`;
      throw mismatch(`${pointerOf(tensor, all)}/shape/${axis}`, `${name} = ${known.size}`, `${size}`, detail);
    }
  }
}

/**
 * Names of the outputs to compute, in the order asked, else the model's. Throws `signature_mismatch` for unknown and repeated ones, and
 * `invalid_request` for those that cannot be answered as it was asked: after the run that would be too late.
 */
export function checkOutputs(
  asked: readonly Pick<RequestedOutput, "name" | "classification">[] | undefined,
  signature: ModelSignature,
): string[] {
  const known = signature.outputs.map((output) => output.name);
  if (asked === undefined || asked.length === 0) return known;
  const names: string[] = [];
  for (const [index, { classification, name }] of asked.entries()) {
    const pointer = `/outputs/${index}/name`;
    const output = signature.outputs.find((one) => one.name === name);
    if (output === undefined) {
      const detail = `The model has no output '${shown(name)}', its outputs are ${known.join(", ")}`;
      throw mismatch(pointer, known.join(", "), JSON.stringify(shown(name)), detail);
    }
    if (names.includes(name))
      throw mismatch(pointer, "each output once", JSON.stringify(name), `Output '${name}' already exists in request`);
    if (classification !== undefined) requireNumbers(output, `/outputs/${index}/parameters/classification`);
    names.push(name);
  }
  return names;
}

function typeOf(tensor: { datatype: string; shape: readonly number[] }): string {
  return `${tensor.datatype} [${tensor.shape.join(",")}]`;
}

function pointerOf(tensor: Tensor, all: readonly Tensor[]): string {
  return `/inputs/${all.indexOf(tensor)}`;
}

function mismatch(at: string, expected: string, got: string, detail: string) {
  return refuse({ at, expected, got: told(got), detail }, "signature_mismatch");
}
