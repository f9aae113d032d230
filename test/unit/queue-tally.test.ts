import assert from "node:assert/strict";
import { test } from "node:test";
import { addTally, count, countRun, emptyTally, type QueueTally, readTally, tallyReports, UntoldTallies } from "@switchyard/protocol";

/** What stands in the store after a first report. */
const read = (tally: QueueTally): QueueTally => readTally(tallyReports(tally).flatMap(([field, , text]) => [field, text]));

function counted(): QueueTally {
  const tally = emptyTally();
  countRun(tally, { items: 4, jobs: 3, inputMs: 0.125, inferMs: 2.5, outputMs: 0.25 });
  countRun(tally, { items: 4, jobs: 1, inputMs: 0.125, inferMs: 1.5, outputMs: 0.25 });
  countRun(tally, { items: 1, jobs: 1, inputMs: 0, inferMs: 1, outputMs: 0 });
  for (const name of ["success", "fail", "queue", "input", "infer", "output", "hit", "miss"] as const) count(tally[name], 2, 7.5);
  tally.lastMs = 1_700_000_000_000;
  return tally;
}

test("what a process tells is what a coordinator reads", () => {
  assert.deepEqual(read(counted()), counted());
  assert.deepEqual(read(emptyTally()), emptyTally());
});

test("what nothing was counted of is not told", () => {
  const tally = emptyTally();
  count(tally.fail, 1, 0);
  assert.deepEqual(tallyReports(tally), [["fail", "+", "1 0"]]);
  assert.deepEqual(tallyReports(emptyTally()), []);
});

test("sums are the sums, and the last success the latest", () => {
  const sum = emptyTally();
  addTally(sum, counted());
  addTally(sum, { ...counted(), lastMs: 5 });
  assert.deepEqual([sum.items, sum.runs, sum.success, sum.lastMs], [18, 6, { count: 4, ms: 15 }, 1_700_000_000_000]);
  assert.deepEqual(sum.batches.get(4), { runs: 4, inputMs: 0.5, inferMs: 8, outputMs: 1 });
  assert.deepEqual(counted().batches.get(4)?.runs, 2, "what was added is not shared");
});

test("the sizes that are told apart are bounded, whatever clients send", () => {
  const tally = emptyTally();
  for (let items = 1; items <= 5_000; items++) countRun(tally, { items, jobs: 1, inputMs: 0, inferMs: 1, outputMs: 0 });
  const sizes = [...tally.batches.keys()];
  assert.deepEqual(
    sizes.slice(0, 256),
    Array.from({ length: 256 }, (_, at) => at + 1),
  );
  assert.deepEqual(sizes.slice(256), [512, 1024, 2048, 4096, 8192]);
});

test("fields that cannot be read count as nothing, and blind nobody to the others", () => {
  const good = tallyReports(counted()).flatMap(([field, , text]) => [field, text]);
  const bad = ["told host", "3 1700", "success", "many", "batch x", "1 2 3 4", "colour", "1", "fail", "-1 2", "batch 2", "Infinity"];
  const tally = readTally([...bad, ...good.filter((_, at) => !["success", "fail"].includes(good[at - (at % 2)]!))]);
  assert.deepEqual(tally, { ...counted(), success: { count: 0, ms: 0 }, fail: { count: 0, ms: 0 } });
});

test("a tally without an answer is told again as it was, under its number, before what came since", () => {
  const untold = new UntoldTallies();
  untold.of("a").runs = 1;
  const first = untold.next("a");
  untold.of("a").runs += 5;
  assert.deepEqual([untold.next("a"), untold.tags()], [first, ["a"]]);
  assert.equal(first?.tally.runs, 1);
  untold.told("a");
  const second = untold.next("a");
  assert.deepEqual([second?.tally.runs, second!.sequence > first!.sequence], [5, true]);
  untold.told("a");
  assert.deepEqual([untold.next("a"), untold.tags()], [undefined, []]);
});
