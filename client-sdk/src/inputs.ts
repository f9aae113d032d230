/** What a caller may give as inputs, and the tensors that it becomes. Pure. */

import {
  type Datatype,
  halfFromFloat,
  isDatatype,
  SwitchyardError,
  type Tensor,
  type TensorData,
  type TypedArray,
  tensor,
} from "@switchyard/protocol";
import { ClientError } from "./client-errors.ts";

export type Nested<Element> = readonly (Element | Nested<Element>)[];

export type Element = number | bigint | boolean | string;

export interface InputTensor {
  /**
   * A typed array (row-major, not copied), or an array, flat or nested. Elements by datatype: numbers, also bigints for INT64 and
   * UINT64, booleans for BOOL, strings for BYTES. A Uint16Array is FP16 when `datatype` says so.
   */
  data: TypedArray | Nested<Element> | Element;
  /** Default: the nesting of arrays, `[length]` of typed arrays. */
  shape?: readonly number[] | undefined;
  /** Needed for arrays of numbers; typed arrays, strings, booleans and bigints (INT64) imply it. */
  datatype?: Datatype | undefined;
}

/** A string is one BYTES element, an array of strings a BYTES tensor; a bare typed array has one axis. */
export type InputValue = InputTensor | TypedArray | string | Nested<string>;

/** By name, or as tensors of the protocol in their own order. */
export type Inputs = Readonly<Record<string, InputValue>> | readonly Tensor[];

/** Throws ClientError `invalid_request` that names the input. */
export function tensorsOf(inputs: Inputs): Tensor[] {
  if (isTensorList(inputs)) return [...inputs];
  return Object.entries(inputs).map(([name, value]) => tensorOf(name, value));
}

function isTensorList(inputs: Inputs): inputs is readonly Tensor[] {
  return Array.isArray(inputs);
}

export function tensorOf(name: string, value: InputValue): Tensor {
  const given: InputTensor = isInputTensor(value) ? value : { data: typeof value === "string" ? [value] : value };
  const { datatype } = given;
  if (datatype !== undefined && !isDatatype(datatype)) throw unfit(name, `datatype ${JSON.stringify(datatype)} is unknown`);
  try {
    if (ArrayBuffer.isView(given.data)) return tensor(name, given.data, given.shape ?? [given.data.length], datatype);
    const flat = flatten(name, given.data);
    const chosen = datatype ?? impliedDatatype(name, flat.elements);
    const data = chosen === "FP16" ? halves(name, flat.elements) : (flat.elements as TensorData);
    return tensor(name, data, given.shape ?? flat.shape, chosen);
  } catch (error) {
    if (error instanceof SwitchyardError) throw new ClientError(error.code, error.message);
    throw error;
  }
}

function isInputTensor(value: InputValue): value is InputTensor {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Row-major elements and the shape that the nesting shows. Throws when neighbours differ in length. */
function flatten(name: string, data: Nested<Element> | Element): { elements: readonly Element[]; shape: number[] } {
  if (data === undefined || data === null) throw unfit(name, "data is missing");
  if (!Array.isArray(data)) return { elements: [data as Element], shape: [] };
  let level: readonly unknown[] = data;
  const shape: number[] = [data.length];
  while (Array.isArray(level[0])) {
    const { length } = level[0] as readonly unknown[];
    const next: unknown[] = [];
    for (const part of level) {
      if (!Array.isArray(part) || part.length !== length)
        throw unfit(name, `its arrays at depth ${shape.length} are not all of length ${length}`);
      for (const item of part) next.push(item);
    }
    level = next;
    shape.push(length);
  }
  if (level.some(Array.isArray)) throw unfit(name, `numbers and arrays are mixed at depth ${shape.length}`);
  return { elements: level as readonly Element[], shape };
}

function impliedDatatype(name: string, elements: readonly Element[]): Datatype {
  switch (typeof elements[0]) {
    case "string":
      return "BYTES";
    case "boolean":
      return "BOOL";
    case "bigint":
      return "INT64";
    default:
      throw unfit(name, 'an array of numbers needs a datatype, such as "FP32"');
  }
}

function halves(name: string, elements: readonly Element[]): Uint16Array {
  return Uint16Array.from(elements, (element) => {
    if (typeof element !== "number") throw unfit(name, `element ${String(element)} is not a number`);
    return halfFromFloat(element);
  });
}

function unfit(name: string, why: string): ClientError {
  return new ClientError("invalid_request", `input '${name}': ${why}`);
}
