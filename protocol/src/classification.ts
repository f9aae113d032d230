/** The classification extension: the k largest values of an output as text, "value:index" or "value:index:label". */

import { encodeBytesElements } from "./bytes-elements.ts";
import { refuse, shown, told } from "./request-fault.ts";
import type { Tensor } from "./tensors.ts";
import { floatFromHalf, toTypedArray } from "./typed-tensors.ts";

/**
 * A BYTES tensor of shape [batch, min(k, C)], or [min(k, C)] for an output of rank 0 or 1; C is the product of the axes after the
 * first. Descending, ties by index, NaN last. Throws `invalid_request` when the output holds no numbers.
 */
export function classify(output: Tensor, k: number, source: { at: string; labels?: readonly string[] | undefined }): Tensor {
  requireNumbers(output, source.at);
  const values = toTypedArray(output);
  const isBatched = output.shape.length > 1;
  const rows = isBatched ? output.shape[0]! : 1;
  const classes = rows === 0 ? output.shape.slice(1).reduce((product, axis) => product * axis, 1) : values.length / rows;
  const kept = Math.min(k, classes);
  const elements: string[] = [];
  for (let row = 0; row < rows; row++) {
    const from = row * classes;
    const numbers = Array.from({ length: classes }, (_, index) => numberAt(output, values[from + index]!));
    for (const index of topIndexes(numbers, kept)) {
      const label = source.labels?.[index];
      elements.push(`${spell(output, numbers[index]!)}:${index}${label === undefined ? "" : `:${label}`}`);
    }
  }
  return { name: output.name, datatype: "BYTES", shape: isBatched ? [rows, kept] : [kept], bytes: encodeBytesElements(elements) };
}

/** Throws `invalid_request` for an output that `classify` would refuse whatever is in it. */
export function requireNumbers({ datatype, name }: Pick<Tensor, "datatype" | "name">, at: string): void {
  if (datatype !== "BYTES") return;
  const detail = `Output '${shown(name)}' is BYTES and cannot be classified`;
  throw refuse({ at, expected: "an output of numbers", got: told("BYTES"), detail });
}

function numberAt(output: Tensor, value: number | bigint): number | bigint {
  return output.datatype === "FP16" ? floatFromHalf(value as number) : value;
}

function topIndexes(numbers: readonly (number | bigint)[], k: number): number[] {
  const order = numbers.map((_, index) => index);
  order.sort((a, b) => compare(numbers[b]!, numbers[a]!) || a - b);
  return order.slice(0, k);
}

/** Ascending with NaN lowest, so that descending order has it last. */
function compare(a: number | bigint, b: number | bigint): number {
  if (a > b) return 1;
  if (a < b) return -1;
  return Number(Number.isNaN(b)) - Number(Number.isNaN(a));
}

/** Nine significant digits give back the same FP32; more would only show the widening to a double. */
function spell(output: Tensor, value: number | bigint): string {
  return output.datatype === "FP32" && Number.isFinite(value) ? String(Number((value as number).toPrecision(9))) : String(value);
}
