import assert from "node:assert/strict";
import { test } from "node:test";
import { type Ladder, runMs, staleAfterMs } from "@switchyard/protocol";
import { mostClaimBytes, RunFigures, type RunSeen } from "../../worker/src/runner/run-figures.ts";

const warmUp: Ladder = [
  [1, 10],
  [2, 12],
  [4, 16],
];

const seen = (wishes: Partial<RunSeen> = {}): RunSeen => ({
  ...{ runMs: 20, items: 1, bytes: 1_000, size: 0, atMs: 1_000, isSample: true },
  ...wishes,
});

function figuresOf(...runs: Partial<RunSeen>[]): RunFigures {
  const figures = new RunFigures();
  figures.loaded("a", { warmUp, maxItems: 4 });
  for (const run of runs) figures.ran("a", seen(run));
  return figures;
}

test("a model that has run nothing but its warm-up binds no claim", () => {
  const figures = figuresOf();
  assert.equal(figures.ladders("a", 1_000).size, 0);
  assert.equal(figures.ladders("b", 1_000).size, 0, "nor does one that is not known at all");
  assert.equal(figures.maxItems("a", 64, { isBeside: false }), 64);
  assert.ok(figures.busyMs("a") > 0);
});

test("runs make a table for every batch up to the largest, shaped by the warm-up", () => {
  const ladder = figuresOf({}, {}, {}).ladders("a", 1_000).get(0);
  assert.deepEqual(
    ladder?.map(([items]) => items),
    [1, 2, 4],
  );
  const [one = 0, two = 0, four = 0] = ladder?.map(([, ms]) => ms) ?? [];
  assert.equal(one, 20);
  assert.ok(Math.abs(two - 24) < 0.01 && Math.abs(four - 32) < 0.01, `${two} ${four}: as the warm-up's 10, 12 and 16`);
});

test("runs that are no samples move no table, and are still held against the ticket and the memory", () => {
  const figures = figuresOf({ isSample: false, runMs: 400, bytes: mostClaimBytes / 2 });
  assert.equal(figures.ladders("a", 1_000).size, 0);
  assert.equal(figures.maxItems("a", 64, { isBeside: false }), 2);
  assert.ok(figures.busyMs("a") >= 800);
});

test("each size class has a table of its own", () => {
  const ladders = figuresOf({}, { size: 7, runMs: 90 }).ladders("a", 1_000);
  assert.equal(runMs(ladders.get(0), 1), 20);
  assert.equal(runMs(ladders.get(7), 1), 90);
});

test("what no run has confirmed lately is left out, size class by size class", () => {
  const figures = figuresOf({ atMs: 1_000 }, { size: 7, atMs: 3_000 });
  const later = figures.ladders("a", 1_001 + staleAfterMs);
  assert.deepEqual([...later.keys()], [7]);
});

test("runs that take longer than predicted raise the table at once, and it comes down again by and by", () => {
  const steady = Array.from({ length: 40 }, () => ({}));
  const figures = figuresOf(...steady);
  const predicted = (): number => runMs(figures.ladders("a", 1_000).get(0), 1);
  assert.equal(predicted(), 20);
  figures.ran("a", seen({ runMs: 30 }));
  const raised = predicted();
  assert.ok(Math.abs(raised - 22) < 0.01, `${raised}`);
  for (let at = 0; at < 10; at++) figures.ran("a", seen());
  assert.ok(predicted() < raised && predicted() >= 20, `${predicted()}`);
});

test("a table that rests on many runs is made anew ten times a second, not after each", () => {
  const figures = figuresOf(...Array.from({ length: 40 }, () => ({})));
  const predicted = (): number => runMs(figures.ladders("a", 1_000).get(0), 1);
  for (let at = 0; at < 60; at++) figures.ran("a", seen({ runMs: 10, atMs: 1_099 }));
  assert.equal(predicted(), 20);
  figures.ran("a", seen({ runMs: 10, atMs: 1_100 }));
  assert.ok(predicted() < 20, `${predicted()}`);
});

test("a model that is loaded again keeps what was measured of it", () => {
  const figures = figuresOf({}, {});
  figures.loaded("a", { warmUp: [[1, 99]], maxItems: 8 });
  assert.equal(runMs(figures.ladders("a", 1_000).get(0), 1), 20);
  figures.ran("a", seen());
  assert.equal(figures.ladders("a", 1_000).get(0)?.at(-1)?.[0], 8, "and its table ends with the new largest batch");
});

test("a claim costs what was measured beside its runs, and a guess before", () => {
  const figures = figuresOf();
  const guess = figures.overheadMs("a");
  assert.ok(guess > 0);
  for (let at = 0; at < 5; at++) figures.claimTook("a", { overheadMs: 2, atMs: at });
  assert.equal(figures.overheadMs("a"), 2);
  assert.equal(figures.overheadMs("b"), guess, "queues do not share it");
});

test("what a bad minute made a claim cost is forgotten by the few that come through afterwards", () => {
  const figures = figuresOf();
  for (let at = 0; at < 60; at++) figures.claimTook("a", { overheadMs: 300, atMs: 1_000 * at });
  assert.ok(figures.overheadMs("a") >= 290);
  figures.claimTook("a", { overheadMs: 3, atMs: 60_000 });
  assert.ok(figures.overheadMs("a") > 200, "one that was quicker says little while others come");
  let lookups = 0;
  for (; figures.overheadMs("a") > 20; lookups++)
    figures.claimTook("a", { overheadMs: 3, atMs: 60_000 + (lookups + 1) * (staleAfterMs + 1) });
  assert.ok(lookups <= 4, `${lookups} jobs, one each time that the promise had kept the others away`);
});

test("a clock that was set back keeps no run from being heard", () => {
  const hour = 3_600_000;
  const figures = figuresOf(...Array.from({ length: 40 }, (_, at) => ({ runMs: 200, atMs: hour + 10 * at })));
  assert.equal(figures.ladders("a", hour - 600_000).size, 0, "what is dated ahead binds nobody");
  for (let at = 0; at < 40; at++) figures.ran("a", seen({ runMs: 20, atMs: hour - 600_000 + 200 * at }));
  assert.equal(runMs(figures.ladders("a", hour - 592_000).get(0), 1), 20);
});

test("a claim holds at least one item, however large", () => {
  const figures = figuresOf({ bytes: 4 * mostClaimBytes });
  assert.equal(figures.maxItems("a", 64, { isBeside: false }), 1);
});
