/** The values that a sweep goes through, as they are written on the command line. Pure. */

import { InvalidArgumentError } from "commander";

const mostValues = 64;

/** `8`, `1,4,16`, `1:64` (doubling) or `50:400:50` (steps), each rising. Throws commander's InvalidArgumentError. */
export function sweepRange(text: string): number[] {
  const values = text.includes(":") ? fromTo(text) : text.split(",").map(numberIn);
  const rises = values.every((value, at) => at === 0 || value > values[at - 1]!);
  if (!values.every((value) => value > 0) || !rises) throw unfit();
  if (values.length > mostValues) throw new InvalidArgumentError(`That is ${values.length} values; give ${mostValues} at most.`);
  return values;
}

/** As sweepRange, of whole numbers. */
export function wholeSweepRange(text: string): number[] {
  const values = sweepRange(text);
  if (!values.every(Number.isSafeInteger)) throw new InvalidArgumentError("Give whole numbers.");
  return values;
}

function fromTo(text: string): number[] {
  const parts = text.split(":").map(numberIn);
  const [from = 0, to = 0, step] = parts;
  if (parts.length > 3 || !(from > 0) || !(to >= from) || (step !== undefined && !(step > 0))) throw unfit();
  const values: number[] = [];
  for (let value = from; value < to && values.length <= mostValues; value = step === undefined ? 2 * value : value + step)
    values.push(value);
  return [...values, to];
}

function numberIn(text: string): number {
  return /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : Number.NaN;
}

function unfit(): InvalidArgumentError {
  return new InvalidArgumentError(
    "Give a number above 0, a rising list such as 1,4,16, or a range such as 1:64 (doubling) or 50:400:50 (steps).",
  );
}
