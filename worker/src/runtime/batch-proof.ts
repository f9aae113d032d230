/**
 * Finds out whether strangers' items may share a run. A dynamic first axis may be time or nodes as well as a batch, and the graph
 * does not say; so items are run apart and together, and only equal answers allow batching. A doubt means batch 1.
 */

import { type Datatype, type ModelSignature, type Tensor, toTypedArray } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import { type InputRecipe, randomInputs, seededChance } from "./random-inputs.ts";
import type { Session } from "./session.ts";
import { NotStackable, Scratch, split, stack } from "./stacking.ts";

export interface BatchProof {
  isProven: boolean;
  /** Why, in words that a user can read. */
  reason: string;
}

/** Absolute and relative. */
const tolerance = 1e-5;
/** Half precision has 11 bits: its last place is coarser than the tolerance. */
const halfTolerance = 1e-3;
/** Different spreads reach different sides of thresholds and saturations. */
const trials = [
  { seed: 11, spread: 1 },
  { seed: 23, spread: 8 },
  { seed: 47, spread: 0.2 },
] as const;
/** A slow model is spared the last trial. */
const patienceMs = 1500;

/** Why the declared axes alone forbid batching; undefined while they allow it. */
export function axisObstacle(signature: ModelSignature): string | undefined {
  const { inputs, outputs } = signature;
  if (inputs.length === 0) return "the model has no inputs";
  for (const [kind, tensors] of [["input", inputs] as const, ["output", outputs] as const]) {
    const fixed = tensors.find((tensor) => tensor.shape[0] !== -1);
    if (fixed) return `${kind} '${fixed.name}' [${fixed.shape}] has no dynamic first axis`;
  }
  for (const tensor of [...inputs, ...outputs]) {
    const name = tensor.axes?.[0];
    if (name && tensor.axes?.indexOf(name, 1) !== -1) return `the first axis of '${tensor.name}' (${name}) is one of its other axes too`;
  }
  return undefined;
}

/** Runs random items apart and stacked. Throws what the runtime throws when a run of one job fails. */
export async function proveBatching(session: Session, recipe: InputRecipe, clock: Clock): Promise<BatchProof> {
  const wanted = session.outputs.map((output) => output.name);
  const run = async (feeds: readonly Tensor[]): Promise<Tensor[]> => {
    const produced = await session.run(feeds, wanted);
    return wanted.map((name) => produced.get(name)!);
  };
  const startedMs = clock.monotonicMs();
  let items = false;
  for (const [index, { seed, spread }] of trials.entries()) {
    if (index === trials.length - 1 && clock.monotonicMs() - startedMs > patienceMs) break;
    const chance = seededChance(seed);
    const one = randomInputs(session.inputs, { ...recipe, spread, items: 1 }, chance);
    const two = randomInputs(session.inputs, { ...recipe, spread, items: 2 }, chance);
    const jobs = index % 2 === 0 ? [one, two] : [two, one];
    const counts = index % 2 === 0 ? [1, 2] : [2, 1];
    const apart = [await run(jobs[0]!), await run(jobs[1]!)];
    let together: Tensor[][];
    try {
      together = split(await run(stack(jobs, new Scratch())), counts);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return { isProven: false, reason: error instanceof NotStackable ? why : `items run apart, but not stacked: ${why}` };
    }
    for (const [job, outputs] of apart.entries()) {
      for (const [place, output] of outputs.entries()) {
        const difference = firstDifference(output, together[job]![place]!);
        if (difference)
          return { isProven: false, reason: `stacked items answer otherwise than apart: output '${output.name}' ${difference}` };
      }
    }
    items ||= apart[0]!.some((output, place) => !startsAlike(output, apart[1]![place]!));
  }
  if (!items) return { isProven: false, reason: "random items all gave the same answer, which proves nothing about stacking them" };
  return { isProven: true, reason: "random items stacked answer as they do apart" };
}

/** Undefined when equal: floats within the tolerance, everything else exactly. */
function firstDifference(expected: Tensor, actual: Tensor): string | undefined {
  if (expected.shape.length !== actual.shape.length || expected.shape.some((size, axis) => size !== actual.shape[axis])) {
    return `has shape [${actual.shape}] stacked, [${expected.shape}] apart`;
  }
  if (!isFloat(expected.datatype)) {
    const isSame = Buffer.compare(expected.bytes, actual.bytes) === 0;
    return isSame ? undefined : "differs";
  }
  const left = floatsOf(expected);
  const right = floatsOf(actual);
  const allowed = expected.datatype === "FP16" ? halfTolerance : tolerance;
  for (let index = 0; index < left.length; index += 1) {
    const a = left[index]!;
    const b = right[index]!;
    if (Object.is(a, b) || a === b) continue;
    if (!(Math.abs(a - b) <= allowed + allowed * Math.abs(a))) return `has ${b} stacked, ${a} apart, at element ${index} of a job's share`;
  }
  return undefined;
}

/** Whether the first items of two outputs are byte for byte the same. */
function startsAlike(left: Tensor, right: Tensor): boolean {
  const size = Math.min(left.bytes.length, right.bytes.length);
  return Buffer.compare(left.bytes.subarray(0, size), right.bytes.subarray(0, size)) === 0;
}

function isFloat(datatype: Datatype): boolean {
  return datatype === "FP32" || datatype === "FP64" || datatype === "FP16";
}

function floatsOf(tensor: Tensor): { length: number; [index: number]: number } {
  const words = toTypedArray(tensor) as Float32Array | Float64Array | Uint16Array;
  return tensor.datatype === "FP16" ? new Float16Array(words.buffer as ArrayBuffer, words.byteOffset, words.length) : words;
}
