import assert from "node:assert/strict";
import { test } from "node:test";
import { type Tensor, tensor, toTypedArray } from "@switchyard/protocol";
import type { Clock } from "../../worker/src/clock.ts";
import { type BatchResult, type RunnableModel, runBatch } from "../../worker/src/runtime/batch-run.ts";
import { cleanRuntimeText, tellsOfMemory } from "../../worker/src/runtime/runtime-text.ts";
import { RunFailure, type Session } from "../../worker/src/runtime/session.ts";
import { Scratch } from "../../worker/src/runtime/stacking.ts";

/** Answers twice x as `double` and x plus one as `next`; a run with a negative number fails. Each run takes 3 ms. */
function doubler(
  options: { maxItems?: number; foldsItems?: boolean } = {},
): RunnableModel & { runs: { items: number; wanted: string[] }[] } {
  let nowMs = 0;
  const runs: { items: number; wanted: string[] }[] = [];
  const value = (name: string) => ({ name, datatype: "FP32" as const, shape: [-1, 1] });
  const session: Session = {
    inputs: [value("x")],
    outputs: [value("double"), value("next")],
    async run(feeds, wanted) {
      nowMs += 3;
      const numbers = [...(toTypedArray(feeds[0]!) as Float32Array)];
      runs.push({ items: numbers.length, wanted: [...wanted] });
      if (numbers.some((number) => number < 0)) throw new RunFailure("negative", { isTransient: false });
      const all: Record<string, (number: number) => number> = { double: (number) => 2 * number, next: (number) => number + 1 };
      const shape = [options.foldsItems ? 1 : numbers.length, 1];
      const kept = options.foldsItems ? numbers.slice(0, 1) : numbers;
      return new Map<string, Tensor>(wanted.map((name) => [name, tensor(name, Float32Array.from(kept, all[name]!), shape)]));
    },
    release: async () => {},
  };
  const clock = { monotonicMs: () => nowMs } as Clock;
  return { session, clock, scratch: new Scratch(), batching: { maxItems: options.maxItems ?? 32, reason: "test" }, runs };
}

function job(...numbers: number[]): { inputs: Tensor[]; items: number } {
  return { inputs: [tensor("x", Float32Array.from(numbers), [numbers.length, 1])], items: numbers.length };
}

function numbersOf(result: BatchResult | undefined): Record<string, number[]> | string {
  assert.ok(result);
  if ("error" in result) return result.error.message;
  return Object.fromEntries(result.outputs.map((output) => [output.name, [...(toTypedArray(output) as Float32Array)]]));
}

test("all jobs share one run and each gets its own items", async () => {
  const model = doubler();
  const { results, runs, runMs, counted } = await runBatch({ model, jobs: [job(1), job(2, 3), job(4)] });
  assert.deepEqual([runs, runMs, model.runs.length], [1, 3, 1]);
  assert.deepEqual(counted, [{ jobs: 3, items: 4, inputMs: 0, inferMs: 3, outputMs: 0 }]);
  assert.deepEqual(results.map(numbersOf), [
    { double: [2], next: [2] },
    { double: [4, 6], next: [3, 4] },
    { double: [8], next: [5] },
  ]);
});

test("a run computes the union of the outputs wanted and each job gets those it asked for, in its order", async () => {
  const model = doubler();
  const jobs = [
    { ...job(1), outputs: ["next"] },
    { ...job(2), outputs: ["next"] },
  ];
  await runBatch({ model, jobs });
  assert.deepEqual(model.runs[0]!.wanted, ["next"]);
  const { results } = await runBatch({ model, jobs: [{ ...job(1), outputs: ["next", "double"] }, job(2)] });
  assert.deepEqual(
    results.map((result) => Object.keys(numbersOf(result))),
    [
      ["next", "double"],
      ["double", "next"],
    ],
  );
});

test("bad items fail alone wherever they stand", async () => {
  for (const bad of [[0], [7], [3, 4], [0, 1, 2, 3, 4, 5, 6, 7]]) {
    const jobs = Array.from({ length: 8 }, (_, index) => job(bad.includes(index) ? -1 : index));
    const { results, runs } = await runBatch({ model: doubler(), jobs });
    for (const [index, result] of results.entries()) {
      assert.deepEqual(numbersOf(result), bad.includes(index) ? "negative" : { double: [2 * index], next: [index + 1] });
      if ("error" in result) assert.deepEqual([result.error.retryable, result.error.facts.extra], [false, { retryable: false }]);
    }
    assert.ok(runs <= 15, `${runs} runs`);
  }
});

test("a model that is not batched runs its jobs one by one", async () => {
  const model = doubler({ maxItems: 1 });
  const { results, runs } = await runBatch({ model, jobs: [job(1), job(-1), job(3)] });
  assert.equal(runs, 3);
  assert.deepEqual(results.map(numbersOf), [{ double: [2], next: [2] }, "negative", { double: [6], next: [4] }]);
});

test("a model whose outputs cannot be split answers rightly and is not batched again", async () => {
  const model = doubler({ foldsItems: true });
  const first = await runBatch({ model, jobs: [job(1), job(2)] });
  assert.deepEqual(first.results.map(numbersOf), [
    { double: [2], next: [2] },
    { double: [4], next: [3] },
  ]);
  assert.equal(first.runs, 3);
  assert.equal(model.batching.maxItems, 1);
  assert.match(model.batching.reason, /cannot be split: output 'double'/);
});

test("jobs of different shapes are run apart and the model stays batched", async () => {
  const model = doubler();
  const odd = { inputs: [tensor("x", Float32Array.of(5), [1, 1, 1])], items: 1 };
  const { results } = await runBatch({ model, jobs: [job(1), odd] });
  assert.ok(results.every((result) => "outputs" in result));
  assert.equal(model.batching.maxItems, 32);
});

test("no jobs need no run", async () => {
  assert.deepEqual(await runBatch({ model: doubler(), jobs: [] }), { results: [], runMs: 0, runs: 0, counted: [] });
});

test("a runtime's text loses source locations and folders but keeps node names", () => {
  const arena =
    "Non-zero status code returned while running ConstantOfShape node. Name:'/layer1/Fill' Status Message: " +
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, " +
    "onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 4000\n";
  const cleaned = cleanRuntimeText(arena);
  assert.equal(
    cleaned,
    "Non-zero status code returned while running ConstantOfShape node. Name:'/layer1/Fill' Status Message: " +
      "Failed to allocate memory for requested buffer of size 4000",
  );
  assert.ok(tellsOfMemory(cleaned));
  assert.equal(cleanRuntimeText("Load model from /srv/models/m/1/model.onnx failed"), "Load model from model.onnx failed");
  assert.equal(cleanRuntimeText('In Node, ("/model/Add", Add, "", -1)'), 'In Node, ("/model/Add", Add, "", -1)');
});

test("runs that failed are not counted, and a model that is not batched runs one item, however long its first axis", async () => {
  const halved = await runBatch({ model: doubler(), jobs: [job(1), job(-1), job(3)] });
  assert.deepEqual(
    halved.counted.map(({ items, jobs }) => [items, jobs]),
    [
      [1, 1],
      [1, 1],
    ],
  );
  assert.ok(halved.runs > 2);
  const { counted } = await runBatch({ model: doubler({ maxItems: 1 }), jobs: [{ ...job(1, 2, 3), items: 3 }] });
  assert.deepEqual(
    counted.map(({ items, jobs }) => [items, jobs]),
    [[1, 1]],
  );
});
