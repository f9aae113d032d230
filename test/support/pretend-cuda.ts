/**
 * Loaded before a worker (`node --import`): its ONNX Runtime then lists the provider `cuda`, as on a machine with a GPU, and computes on the
 * CPU what is asked of it, unless SWITCHYARD_TEST_CUDA_FAILS is 1. Each session says on stderr which providers it was asked for, so that a test can see that nothing else was.
 * With SWITCHYARD_TEST_CUDA_RUN_MS a run keeps its thread for so long in all, and takes no more of the processor than it does by itself.
 * With SWITCHYARD_TEST_CUDA_CHANGE_MS a run of another first axis than the last takes so much longer, and each run says on stderr how many items it has.
 */

import { writeSync } from "node:fs";
import { createRequire } from "node:module";

interface Handler {
  run(feeds: Record<string, { dims: readonly number[] }>, ...rest: unknown[]): Promise<unknown>;
}

interface Backend {
  listSupportedBackends(): { name: string; bundled: boolean }[];
  onnxruntimeBackend: { createInferenceSessionHandler(model: unknown, options: { executionProviders?: string[] }): Promise<Handler> };
}

const require = createRequire(import.meta.url);
const backend = require(require.resolve("onnxruntime-node").replace(/index\.js$/, "backend.js")) as Backend;
const listed = backend.listSupportedBackends();
backend.listSupportedBackends = () => [...listed.filter(({ name }) => name !== "cuda"), { name: "cuda", bundled: true }];
const { onnxruntimeBackend } = backend;
let looked = false;
const create = onnxruntimeBackend.createInferenceSessionHandler.bind(onnxruntimeBackend);
const changeMs = Number(process.env.SWITCHYARD_TEST_CUDA_CHANGE_MS ?? 0);

const runMs = Number(process.env.SWITCHYARD_TEST_CUDA_RUN_MS ?? 0);

/** As the real one, it blocks the thread that it is called on. */
function takingTime(handler: Handler): Handler {
  const run = handler.run.bind(handler);
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  handler.run = async (...given) => {
    const endMs = performance.now() + runMs;
    const outputs = await run(...given);
    Atomics.wait(sleeper, 0, 0, Math.max(0, endMs - performance.now()));
    return outputs;
  };
  return handler;
}

function payingForChanges(handler: Handler): Handler {
  const run = handler.run.bind(handler);
  let last: number | undefined;
  handler.run = async (feeds, ...rest) => {
    const items = Object.values(feeds)[0]?.dims[0];
    writeSync(2, `pretended run of ${items} items\n`);
    if (items !== last) await new Promise((resolve) => setTimeout(resolve, changeMs));
    last = items;
    return run(feeds, ...rest);
  };
  return handler;
}

onnxruntimeBackend.createInferenceSessionHandler = async (model, options) => {
  const providers = options.executionProviders ?? [];
  writeSync(2, `pretended session on [${providers}]\n`);
  // the first session is the host's own look at what is there
  if (providers.includes("cuda") && process.env.SWITCHYARD_TEST_CUDA_FAILS === "1" && looked) throw new Error("the device is gone");
  looked ||= providers.includes("cuda");
  const handler = await create(model, { ...options, executionProviders: providers.map((name) => (name === "cuda" ? "cpu" : name)) });
  if (!providers.includes("cuda")) return handler;
  if (runMs > 0) return takingTime(handler);
  return changeMs > 0 ? payingForChanges(handler) : handler;
};
