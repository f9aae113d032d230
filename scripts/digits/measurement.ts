/** Runs a digits model on images in onnxruntime, which is what serves it later. */

import { createRequire } from "node:module";
import type * as Onnxruntime from "onnxruntime-node";
import type { Digit } from "./data-set.ts";

/** The runtime belongs to the worker workspace. */
const { InferenceSession, Tensor } = createRequire(new URL("../../worker/package.json", import.meta.url))(
  "onnxruntime-node",
) as typeof Onnxruntime;

export interface Answer {
  label: number;
  /** Of the answered label, 0–1. */
  probability: number;
}

/** One answer per digit, in order. */
export async function classify(model: Uint8Array, digits: readonly Digit[]): Promise<Answer[]> {
  const session = await InferenceSession.create(model);
  const image = new Tensor("float32", Float32Array.from(digits.flatMap((digit) => digit.pixels)), [digits.length, 64]);
  const { label, probabilities } = await session.run({ image });
  const shares = probabilities!.data as Float32Array;
  return Array.from(label!.data as BigInt64Array, (value, index) => ({
    label: Number(value),
    probability: shares[index * 10 + Number(value)]!,
  }));
}
