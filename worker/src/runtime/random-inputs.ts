/** Inputs that a model may run on before any client has sent one: seeded, so that a load ends the same way each time. */

import { elementBytes, elementCount, encodeBytesElements, type Tensor, type TensorSignature } from "@switchyard/protocol";

/** A number in [0, 1) at each call. */
export type Chance = () => number;

/** Mulberry32. */
export function seededChance(seed: number): Chance {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export interface InputRecipe {
  /** Size of the first axis where it is dynamic. */
  items: number;
  /** Size of every other dynamic axis. */
  otherAxes: number;
  /** Integers and the numbers in strings are in [0, integerLimit). */
  integerLimit: number;
  /** Floats are normal with this spread. */
  spread: number;
}

export function randomInputs(signature: readonly TensorSignature[], recipe: InputRecipe, chance: Chance): Tensor[] {
  return signature.map((input) => {
    const shape = input.shape.map((size, axis) => (size >= 0 ? size : axis === 0 ? recipe.items : recipe.otherAxes));
    return { name: input.name, datatype: input.datatype, shape, bytes: randomBytes(input, elementCount(shape), recipe, chance) };
  });
}

function randomBytes(input: TensorSignature, count: number, recipe: InputRecipe, chance: Chance): Uint8Array {
  const { datatype } = input;
  const integer = (): number => Math.floor(chance() * recipe.integerLimit);
  // Decimal numbers: text to most models, and still readable to those that turn strings into numbers.
  if (datatype === "BYTES") return encodeBytesElements(Array.from({ length: count }, () => String(integer())));
  const bytes = new Uint8Array(count * elementBytes[datatype]);
  const view = new DataView(bytes.buffer);
  const fill = (width: number, write: (at: number) => void): Uint8Array => {
    for (let at = 0; at < bytes.length; at += width) write(at);
    return bytes;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance()) * recipe.spread;
  switch (datatype) {
    case "FP32":
      return fill(4, (at) => view.setFloat32(at, normal(), true));
    case "FP64":
      return fill(8, (at) => view.setFloat64(at, normal(), true));
    case "FP16":
      return fill(2, (at) => view.setFloat16(at, normal(), true));
    case "BOOL":
      return fill(1, (at) => view.setUint8(at, chance() < 0.5 ? 0 : 1));
    case "INT8":
    case "UINT8":
      return fill(1, (at) => view.setUint8(at, integer()));
    case "INT16":
    case "UINT16":
      return fill(2, (at) => view.setUint16(at, integer(), true));
    case "INT32":
    case "UINT32":
      return fill(4, (at) => view.setUint32(at, integer(), true));
    case "INT64":
    case "UINT64":
      return fill(8, (at) => view.setBigUint64(at, BigInt(integer()), true));
  }
}
