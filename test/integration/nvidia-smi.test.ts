/** nvidia-smi as a program that works, is missing, hangs or talks nonsense: what a worker makes of it, and how soon. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { findGpus } from "../../worker/src/capabilities/nvidia-smi.ts";
import { systemClock } from "../../worker/src/clock.ts";
import { startProcesses } from "../support/processes.ts";
import { stubProgram } from "../support/stub-program.ts";

/** As a worker with that PATH would find. */
async function found(path: string, limitMs = 60_000) {
  const before = process.env.PATH;
  process.env.PATH = path;
  const startMs = performance.now();
  try {
    const asked = findGpus(systemClock, limitMs);
    process.env.PATH = before;
    return { ...(await asked), tookMs: performance.now() - startMs };
  } finally {
    process.env.PATH = before;
  }
}

test("the names and memory of all GPUs are read from nvidia-smi", async () => {
  await using stub = await stubProgram("nvidia-smi", 'test "$1" = --query-gpu=name,memory.total && echo "NVIDIA H100 80GB HBM3, 81559"');
  const { gpus, problem } = await found(stub.path);
  assert.deepEqual({ gpus, problem }, { gpus: [{ name: "NVIDIA H100 80GB HBM3", memoryMb: 81_559 }], problem: undefined });
});

test("a machine without nvidia-smi has no GPU, and nothing to tell", async () => {
  const { gpus, problem } = await found("/nowhere");
  assert.deepEqual({ gpus, problem }, { gpus: [], problem: undefined });
});

test("an nvidia-smi that hangs with a child of its own is ended in time", async () => {
  await using stub = await stubProgram("nvidia-smi", "sleep 600 & sleep 600");
  const { gpus, problem, tookMs } = await found(stub.path, 300);
  assert.deepEqual(gpus, []);
  assert.match(problem ?? "", /did not answer within 300 ms/);
  assert.ok(tookMs < 30_000, `${tookMs} ms`);
});

test("an nvidia-smi that fails, talks nonsense or does not end talking counts as no GPU, and says why", async () => {
  for (const [script, why] of [
    ["echo NVIDIA-SMI has failed; exit 9", /ended with 9/],
    ["echo 'no devices were found'", /expected a name and a number/],
    ["yes 'NVIDIA H100, 81559'", /more than 65536 bytes/],
  ] as const) {
    await using stub = await stubProgram("nvidia-smi", script);
    const { gpus, problem, tookMs } = await found(stub.path);
    assert.deepEqual(gpus, [], script);
    assert.match(problem ?? "", why);
    assert.ok(tookMs < 30_000, `${script}: ${tookMs} ms`);
  }
});

test("a worker whose nvidia-smi hangs starts all the same, and says that it knows of no GPU", async () => {
  await using stub = await stubProgram("nvidia-smi", "sleep 600");
  await using cluster = await startProcesses({ workers: 1, env: { PATH: stub.path } });
  assert.match(cluster.workers[0]!.log(), /"gpus_unknown".*did not answer within 5000 ms/);
});
