import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bucketOf,
  type CheckedInputs,
  estimateRuns,
  factorAfter,
  isStale,
  type Ladder,
  type ModelSignature,
  noOverhead,
  overheadMs,
  type RunWindow,
  runMs,
  sizeClassOf,
  withOverhead,
  withRun,
} from "@switchyard/protocol";
import fc from "fast-check";

/** A window of runs of one size, a millisecond apart. */
function windowOf(items: number, runsMs: readonly number[], fromMs = 0): RunWindow {
  let window: RunWindow | undefined;
  for (const [at, ms] of runsMs.entries()) window = withRun(window, { items, runMs: ms, atMs: fromMs + at });
  return window ?? { bucket: bucketOf(items), runs: [] };
}

const times = (count: number, value: number): number[] => Array.from({ length: count }, () => value);
const runTimes = fc.array(fc.double({ min: 0.01, max: 1_000, noNaN: true }), { maxLength: 60 });

test("a bucket is the smallest power of two that holds the items", () => {
  assert.deepEqual([1, 2, 3, 4, 5, 8, 9, 1000].map(bucketOf), [1, 2, 4, 4, 8, 8, 16, 1024]);
  for (let power = 0; power < 30; power++) assert.equal(bucketOf(2 ** power), 2 ** power);
});

function checked(shapes: number[][], stackable = true): CheckedInputs {
  const inputs = shapes.map((shape) => ({ name: "x", datatype: "FP32" as const, shape, bytes: new Uint8Array() }));
  return { inputs, items: stackable ? shapes[0]![0]! : 1, stackable, shapeClass: "" };
}

function signature(...shapes: number[][]): ModelSignature {
  return { inputs: shapes.map((shape) => ({ name: "x", datatype: "FP32" as const, shape })), outputs: [] } as ModelSignature;
}

test("jobs of a model with fixed shapes are of one size, whatever their number of items", () => {
  assert.equal(sizeClassOf(checked([[1, 64]]), signature([-1, 64])), 0);
  assert.equal(sizeClassOf(checked([[12, 64]]), signature([-1, 64])), 0);
});

test("a free axis beside the batch axis divides jobs into sizes by their elements per item", () => {
  const free = signature([-1, -1], [-1, -1]);
  assert.equal(
    sizeClassOf(
      checked([
        [4, 16],
        [4, 16],
      ]),
      free,
    ),
    5,
  );
  assert.equal(
    sizeClassOf(
      checked([
        [4, 17],
        [4, 16],
      ]),
      free,
    ),
    6,
  );
  assert.equal(
    sizeClassOf(
      checked([
        [100, 16],
        [100, 16],
      ]),
      free,
    ),
    5,
  );
  assert.equal(sizeClassOf(checked([[4, 0]]), signature([-1, -1])), 0, "a job without elements has a size");
});

test("jobs that cannot be stacked have the size of all their elements", () => {
  assert.equal(
    sizeClassOf(
      checked(
        [
          [3, 4],
          [5, 4],
        ],
        false,
      ),
      signature([-1, 4], [-1, 4]),
    ),
    5,
  );
});

test("a full window promises what nine runs in ten kept, and half-filled ones are read off the line through all runs", () => {
  const runs = Array.from({ length: 50 }, (_one, at) => at + 1);
  const estimate = estimateRuns([windowOf(1, runs)], undefined, 1);
  assert.deepEqual([estimate?.ladder, estimate?.source], [[[1, 45]], "window"]);
  assert.equal(estimateRuns([windowOf(1, runs)], undefined, 1, { quantile: 0.5, fullWindow: 20 })?.ladder[0]?.[1], 25);
  const few = estimateRuns([windowOf(1, times(19, 10)), windowOf(4, times(3, 16))], undefined, 8);
  assert.equal(few?.source, "fit");
  assert.deepEqual(
    few?.ladder.map(([, ms]) => Math.round(ms)),
    [10, 12, 16, 24],
  );
});

test("of five runs and more the longest has no say: one far out in a hundred must not close a model", () => {
  const promise = (runs: number[]): number | undefined => estimateRuns([windowOf(1, runs)], undefined, 1)?.ladder[0]?.[1];
  assert.equal(promise([10, 11, 90]), 90);
  assert.equal(promise([10, 11, 90, 10, 12]), 12);
  assert.equal(promise([...times(48, 10), 90, 90]), 10);
});

test("the line is raised by its residuals, so that few of the runs seen were longer than promised", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom(1, 2, 4, 8), fc.double({ min: 0.1, max: 100, noNaN: true })), { minLength: 1, maxLength: 15 }),
      (runs) => {
        const windows = new Map<number, RunWindow>();
        for (const [at, [items, ms]] of runs.entries()) windows.set(items, withRun(windows.get(items), { items, runMs: ms, atMs: at }));
        const estimate = estimateRuns([...windows.values()], undefined, 8)!;
        const longer = runs.filter(([items, ms]) => ms > runMs(estimate.ladder, items) + 1e-6);
        assert.ok(longer.length <= (runs.length < 5 ? 0 : Math.max(1, runs.length / 10)), JSON.stringify(longer));
      },
    ),
  );
});

test("while one size was run, others have the warm-up's shape at the height that was measured, or grow in proportion", () => {
  const warmUp: Ladder = [
    [1, 10],
    [2, 12],
    [4, 16],
  ];
  assert.deepEqual(estimateRuns([windowOf(2, [24])], warmUp, 4)?.ladder, [
    [1, 20],
    [2, 24],
    [4, 32],
  ]);
  assert.deepEqual(estimateRuns([windowOf(2, [24])], undefined, 4)?.ladder, [
    [1, 24],
    [2, 24],
    [4, 48],
  ]);
});

test("before any run the warm-up is the promise, and without one there is none", () => {
  const warmUp: Ladder = [
    [1, 10],
    [2, 12],
  ];
  const estimate = estimateRuns([], warmUp, 4);
  assert.deepEqual(
    [estimate?.ladder, estimate?.source, estimate?.newestMs],
    [
      [
        [1, 10],
        [2, 12],
        [4, 24],
      ],
      "warm_up",
      undefined,
    ],
  );
  assert.equal(estimate?.itemMs, 6);
  assert.equal(estimateRuns([], undefined, 4), undefined);
  assert.equal(estimateRuns([], [], 4), undefined);
  assert.equal(runMs(undefined, 4), 0);
});

test("a ladder never falls, reaches the largest batch and answers for any number of items", () => {
  const windows = fc.tuple(runTimes, runTimes, runTimes).map((all) => all.map((runs, at) => windowOf(2 ** at, runs)));
  fc.assert(
    fc.property(windows, fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 300 }), (all, maxItems, items) => {
      const estimate = estimateRuns(all, [[1, 1]], maxItems)!;
      const { ladder } = estimate;
      assert.ok(ladder.at(-1)![0] >= maxItems && ladder.at(-1)![0] < 2 * maxItems);
      for (let at = 1; at < ladder.length; at++) {
        assert.equal(ladder[at]![0], 2 * ladder[at - 1]![0]);
        assert.ok(ladder[at]![1] >= ladder[at - 1]![1]);
      }
      assert.ok(runMs(ladder, items + 1) >= runMs(ladder, items));
      assert.ok(Number.isFinite(runMs(ladder, items)) && estimate.itemMs > 0);
    }),
  );
});

test("a backlog is reckoned by means of full batches, and what runs now by the mean of the bucket that carried most of the recent items", () => {
  const [small, full] = [windowOf(1, times(50, 10)), windowOf(4, [...times(49, 20), 70])];
  const estimate = estimateRuns([small, full], undefined, 4);
  assert.deepEqual([estimate?.itemMs, estimate?.typicalMs], [(20 * (99 + 3.5)) / 100 / 4, (20 * 49 + 70) / 50]);
  const quiet = estimateRuns([windowOf(1, times(50, 10)), windowOf(2, times(3, 12))], undefined, 4);
  assert.deepEqual([Math.round(quiet!.itemMs * 4), quiet?.typicalMs], [16, 10], "read off the line while none was full");
});

test("a bucket that was not run for ten seconds tells how sizes compare, not how long they take", () => {
  const slow = [windowOf(1, times(30, 100)), windowOf(4, times(30, 160)), windowOf(8, times(30, 240))];
  const now = { ...slow[0]!, runs: windowOf(1, times(30, 10), 50_000).runs };
  const estimate = estimateRuns([now, slow[1]!, slow[2]!], undefined, 8);
  const [, two, four, eight] = estimate!.ladder.map(([, ms]) => ms) as [number, number, number, number];
  assert.ok(two < 20 && four < 60 && eight < 100, JSON.stringify(estimate?.ladder));
  assert.equal(
    estimateRuns(
      [now, slow[1]!],
      [
        [1, 5],
        [2, 6],
        [4, 8],
      ],
      4,
    )?.ladder[2]?.[1],
    16,
    "by the warm-up where there is one",
  );
});

test("a window holds the last 50 runs, and those of the last ten seconds speak for it, or the last five", () => {
  const many = windowOf(
    1,
    Array.from({ length: 80 }, (_one, at) => at),
  );
  assert.deepEqual([many.runs.length, many.runs[0]?.runMs], [50, 30]);
  let healed = windowOf(1, times(50, 900));
  for (let at = 0; at < 5; at++) healed = withRun(healed, { items: 1, runMs: 9, atMs: 120_000 + at });
  assert.equal(estimateRuns([healed], undefined, 1)?.ladder[0]?.[1], 9, "five new runs heal it");
});

test("an estimate is stale when its newest run is five seconds old, or nothing has run but the warm-up", () => {
  const estimate = estimateRuns([windowOf(1, [5], 1_000)], undefined, 1)!;
  assert.deepEqual([isStale(estimate, 6_000), isStale(estimate, 6_001)], [false, true]);
  assert.equal(isStale(estimateRuns([], [[1, 5]], 1)!, 0), true);
});

test("a miss by a fifth raises predictions by a tenth, at most to the double, and good runs take it back", () => {
  assert.equal(factorAfter(1, 10, 11.9), 1);
  assert.equal(factorAfter(1, 10, 12), 1.1);
  let factor = 1;
  for (let misses = 0; misses < 20; misses++) factor = factorAfter(factor, 10, 30);
  assert.equal(factor, 2);
  assert.equal(factorAfter(factor, 10, 5), 1.98);
  for (let good = 0; good < 200; good++) factor = factorAfter(factor, 10, 5);
  assert.equal(factor, 1);
});

test("one stall does not raise the overhead to its own length, many of them do", () => {
  let overhead = noOverhead;
  for (let at = 0; at < 1_000; at++) overhead = withOverhead(overhead, 3 + (at % 2));
  const calm = overheadMs(overhead);
  overhead = withOverhead(overhead, 1_000);
  assert.ok(overheadMs(overhead) < 5 * calm, `${overheadMs(overhead)} after one stall`);
  for (let at = 0; at < 100; at++) overhead = withOverhead(overhead, 1_000);
  assert.ok(overheadMs(overhead) > 900, `${overheadMs(overhead)} after a hundred`);
});

test("overhead is a moving mean and twice the distance from it, and a guess before the first batch", () => {
  assert.equal(overheadMs(noOverhead), 5);
  let overhead = withOverhead(noOverhead, 2);
  assert.equal(overheadMs(overhead), 2);
  for (let at = 0; at < 500; at++) overhead = withOverhead(overhead, at % 2 ? 1 : 3);
  assert.ok(Math.abs(overhead.meanMs - 2) < 0.1);
  assert.ok(Math.abs(overheadMs(overhead) - 4) < 0.3, `${overheadMs(overhead)}`);
});

test("a batch that took less than usual never makes the overhead longer", () => {
  let overhead = noOverhead;
  for (let at = 0; at < 100; at++) overhead = withOverhead(overhead, 500);
  for (let at = 0; at < 200; at++) {
    const promisedMs = overheadMs(overhead);
    overhead = withOverhead(overhead, 2);
    assert.ok(overheadMs(overhead) <= promisedMs, `${promisedMs} -> ${overheadMs(overhead)}`);
  }
  assert.ok(overheadMs(overhead) < 10);
});
