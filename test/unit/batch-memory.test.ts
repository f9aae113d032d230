/** Two batches of a model that runs beside the runner's thread are in hand at once: neither may be laid over the other. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import {
  decodeFrame,
  encodeFrame,
  encodeInputFileReference,
  inputFileModes,
  inputFilesFolder,
  type Tensor,
  tensor,
  toTypedArray,
} from "@switchyard/protocol";
import { BatchRuns } from "../../worker/src/runner/batch-runs.ts";
import type { ClaimedJob } from "../../worker/src/runner/claims.ts";
import { InputFiles } from "../../worker/src/runner/input-files.ts";
import { LargeValues } from "../../worker/src/runner/large-values.ts";
import { RunFigures } from "../../worker/src/runner/run-figures.ts";
import type { LoadedModel } from "../../worker/src/runtime/loaded-model.ts";
import { RunFailure } from "../../worker/src/runtime/session.ts";
import { freshMemory } from "../../worker/src/runtime/stacking.ts";
import { TravellingMemory } from "../../worker/src/runtime/travelling-memory.ts";

const itemFloats = 32_768; // a file
const folder = "aaaaaaaaaa";

test("a batch that fails is halved with its own inputs, although those of the next have been read from files meanwhile", async (t) => {
  const root = mkdtempSync(path.join(tmpdir(), "switchyard-frames-"));
  t.after(() => rmSync(root, { recursive: true }));
  await mkdir(path.join(root, inputFilesFolder, folder), { recursive: true });
  const stored = new Map<string, Buffer>();
  for (const value of [9, 8, 1, 2, 100, 200]) {
    const frame = Buffer.from(encodeFrame([tensor("x", new Float32Array(itemFloats).fill(value), [1, itemFloats])]));
    await writeFile(path.join(root, inputFilesFolder, folder, `job-${value}`), frame, { mode: inputFileModes.whole });
    stored.set(`job-${value}`, Buffer.from(encodeInputFileReference({ folder, sight: "bbbbbbbbbb", sizeBytes: frame.length })));
  }
  const clock = { monotonicMs: () => performance.now(), sleep: async () => {} };
  const largeValues = new LargeValues({ redis: {} as never, files: new InputFiles(root), folder: {} as never });
  const inputs = async (_tag: string, jobs: readonly ClaimedJob[]) => jobs.map(({ id }) => stored.get(id)!);
  const runs = new BatchRuns({ claims: { inputs }, largeValues, clock, figures: new RunFigures(), isEnding: () => false });
  const failing = Promise.withResolvers<void>();
  let fails = false;
  const session = {
    inputs: [{ name: "x", datatype: "FP32", shape: [-1, itemFloats] }],
    outputs: [{ name: "y", datatype: "FP32", shape: [-1, 1] }],
    run: async ([x]: readonly Tensor[]) => {
      const items = x!.shape[0]!;
      if (fails && items > 1) {
        await failing.promise;
        throw new RunFailure("one of them is bad", { isTransient: false });
      }
      const values = toTypedArray(x!) as Float32Array;
      const firsts = Float32Array.from({ length: items }, (_, at) => values[at * itemFloats]!);
      return new Map([["y", tensor("y", firsts, [items, 1])]]);
    },
  };
  const model = { session, scratch: freshMemory, clock, isBeside: true, batching: { maxItems: 8, reason: "" } } as unknown as LoadedModel;
  const ready = (...values: number[]) => {
    const facts = { fence: 1, items: 1, attempt: 1, createdMs: 0, class: "standard", size: 0, ttlMs: 1, deadlineMs: 1e9 } as const;
    const jobs = values.map((value) => ({ id: `job-${value}`, ...facts }));
    return runs.ready("t", { kind: "batch", nowMs: 0, sentMs: performance.now(), sequence: 1, jobs }, { model, deadlineOffsetMs: 0 });
  };
  const answers = async (batch: ReturnType<typeof ready>): Promise<unknown[]> =>
    (await runs.run("t", await batch)).results.map((result) =>
      result.outcome === "succeeded" ? (toTypedArray(decodeFrame(result.outputs)[0]!) as Float32Array)[0] : result.outcome,
    );
  assert.deepEqual(await answers(ready(9, 8)), [9, 8]); // from now on there is memory of that size
  assert.deepEqual(await answers(ready(8, 9)), [8, 9]);
  fails = true;
  const running = answers(ready(1, 2));
  await new Promise((resolve) => setImmediate(resolve));
  const next = ready(100, 200);
  await next;
  failing.resolve();
  assert.deepEqual(await running, [1, 2]);
  assert.deepEqual(await answers(next), [100, 200]);
});

test("memory that travels to a model's thread is nobody else's until it is back, and then used again", () => {
  const memory = new TravellingMemory();
  const [one, two] = [memory.take("x", 1_000), memory.take("x", 1_000)];
  assert.notEqual(one.buffer, two.buffer);
  assert.ok(memory.owns(one) && memory.owns(two) && !memory.owns(new Uint8Array(8)));
  memory.back([one.buffer as ArrayBuffer]);
  const again = memory.take("x", 1_100);
  assert.deepEqual([again.buffer === one.buffer, again.length], [true, 1_100]);
  assert.ok(![one.buffer, two.buffer].includes(memory.take("x", 1_000).buffer), "it was given once");
  memory.back([two.buffer as ArrayBuffer]);
  assert.notEqual(memory.take("x", 10_000).buffer, two.buffer, "too small");
  const giant = new ArrayBuffer(65 * 1024 * 1024);
  memory.back([giant]);
  assert.notEqual(memory.take("x", 60 * 1024 * 1024).buffer, giant, "a rare giant is not kept");
});
