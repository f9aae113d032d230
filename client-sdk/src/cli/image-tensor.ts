/** An image as a model's input, with advice for those who give it on the command line. */

import { type ImageConfig, type ModelView, type Pixels, imageTensor as pureImageTensor, SwitchyardError } from "@switchyard/protocol";
import { UsageError } from "./usage-error.ts";

export type { ImageConfig };

/** An image as FP32 [1, …]. Throws UsageError when the model does not say how it wants images. */
export function imageTensor(pixels: Pixels, model: ModelView): { name: string; shape: number[]; data: Float32Array } {
  try {
    return pureImageTensor(pixels, model);
  } catch (error) {
    if (error instanceof SwitchyardError) throw new UsageError(`${error.message}; give the tensor with --input`);
    throw error;
  }
}
