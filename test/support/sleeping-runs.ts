/**
 * Loaded before a worker (`node --import`): each run then takes SWITCHYARD_TEST_RUN_MS longer, in which its thread is blocked as by a run, without the
 * machine time of one. For tests of who gets what is to run, which is the same however a device spends its time.
 */

import { isMainThread } from "node:worker_threads";

/** Variables of a worker whose runs sleep. */
export const sleepingRuns = (ms: number): Record<string, string> => ({
  NODE_OPTIONS: `--import ${import.meta.url}`,
  SWITCHYARD_TEST_RUN_MS: String(ms),
});

// sessions live on runner threads; the main loop has none, and does not load the runtime
if (!isMainThread) {
  const { InferenceSession } = await import("onnxruntime-node");
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const { prototype } = InferenceSession as unknown as { prototype: { run(...given: unknown[]): Promise<unknown> } };
  const { run } = prototype;
  prototype.run = async function (this: unknown, ...given) {
    Atomics.wait(sleeper, 0, 0, Number(process.env.SWITCHYARD_TEST_RUN_MS));
    return await run.apply(this, given);
  };
}
