/** onnxruntime without anything of ours around it: what the systems to compare with run, and what answers are checked against. */

import { alignedView } from "@switchyard/protocol";
import { InferenceSession, Tensor } from "onnxruntime-node";

/** Of every system: the worker reads the same variable. */
export const providers: readonly string[] = (process.env.SWITCHYARD_PROVIDERS || "cpu").split(",");

export interface DirectSession {
  run(bytes: Uint8Array, shape: readonly number[]): Promise<{ data: Float32Array; dims: readonly number[] }>;
  release(): Promise<void>;
}

/** The session options are the product's: without spinning threads all systems are faster on few cores. */
export async function openSession(path: string, threads: number, executionProviders = providers): Promise<DirectSession> {
  const session = await InferenceSession.create(path, {
    executionProviders: [...executionProviders],
    graphOptimizationLevel: "all",
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    extra: { session: { intra_op: { allow_spinning: "0" }, dynamic_block_base: "4" } },
  });
  const input = session.inputNames[0]!;
  const output = session.outputNames[0]!;
  return {
    async run(bytes, shape) {
      const view = alignedView(bytes, 4);
      const values = new Float32Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength / 4);
      const results = await session.run({ [input]: new Tensor("float32", values, shape) });
      const tensor = results[output]!;
      return { data: tensor.data as Float32Array, dims: tensor.dims };
    },
    release: () => session.release(),
  };
}
