/**
 * Loaded before a worker (`node --import`): runs whose `x` begins with a whole number then take SWITCHYARD_TEST_RUN_MS longer, in which their thread is
 * blocked as by a run, without the machine time of one; what hosts warm models up with is no such number. For tests of what happens while something
 * runs, which is the same however a device spends its time.
 */

import { isMainThread } from "node:worker_threads";
import type { Tensor } from "onnxruntime-node";

/** Variables of a worker whose runs sleep. */
export const sleepingRuns = (ms: number): Record<string, string> => ({
  NODE_OPTIONS: `--import ${import.meta.url}`,
  SWITCHYARD_TEST_RUN_MS: String(ms),
});

// sessions live on runner threads; the main loop has none, and does not load the runtime
if (!isMainThread && process.env.SWITCHYARD_TEST_RUN_MS !== undefined) {
  const { InferenceSession } = await import("onnxruntime-node");
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const { prototype } = InferenceSession as unknown as { prototype: { run(...given: unknown[]): Promise<unknown> } };
  const { run } = prototype;
  prototype.run = async function (this: unknown, ...given) {
    const { x } = given[0] as Record<string, Tensor | undefined>;
    if (x?.data instanceof Float32Array && Number.isInteger(x.data[0]))
      Atomics.wait(sleeper, 0, 0, Number(process.env.SWITCHYARD_TEST_RUN_MS));
    return await run.apply(this, given);
  };
}
