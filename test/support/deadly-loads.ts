/**
 * Loaded before a worker (`--import`): to load a graph named `deadly` ends the process at once, as a fault in native code or a machine without the memory
 * would. All else is loaded by the real runtime.
 */

import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

if (!isMainThread) {
  const { InferenceSession } = (await import("onnxruntime-node")) as unknown as {
    InferenceSession: { create(model: string | Uint8Array, ...more: unknown[]): Promise<unknown> };
  };
  const { create } = InferenceSession;
  InferenceSession.create = async function (this: unknown, model, ...more) {
    const bytes = typeof model === "string" ? readFileSync(model) : Buffer.from(model);
    if (bytes.includes("deadly")) process.kill(process.pid, "SIGKILL");
    return await create.call(InferenceSession, model, ...more);
  };
}
