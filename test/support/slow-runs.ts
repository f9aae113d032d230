/**
 * Loaded before a worker (`--import`): each run of a model whose one number `x` (FP32 [1]) is whole first waits SWITCHYARD_TEST_RUN_MS, as a busy device
 * would make it, without the machine time of a long computation, and then for as long as there is a file SWITCHYARD_TEST_RUN_GATE; what hosts warm models
 * up with is no whole number. The model then runs in the real runtime, and nothing of the worker is replaced.
 */

import { existsSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import type { Tensor } from "onnxruntime-node";

const runMs = Number(process.env.SWITCHYARD_TEST_RUN_MS);
const gate = process.env.SWITCHYARD_TEST_RUN_GATE;

// sessions live on runner threads; the main loop has none, and does not load the runtime
if (!isMainThread && runMs > 0) {
  const { InferenceSession } = await import("onnxruntime-node");
  const { prototype } = InferenceSession as unknown as { prototype: { run(...given: unknown[]): Promise<unknown> } };
  const { run } = prototype;
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  prototype.run = async function (this: unknown, ...given) {
    const { x } = given[0] as Record<string, Tensor>;
    if (x?.dims.length === 1 && Number.isInteger(x.data[0])) {
      Atomics.wait(sleeper, 0, 0, runMs); // the thread is blocked, as by a run
      while (gate !== undefined && existsSync(gate)) Atomics.wait(sleeper, 0, 0, 5);
    }
    return await run.apply(this, given);
  };
}
