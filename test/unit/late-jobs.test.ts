import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ladder } from "@switchyard/protocol";
import { splitLate } from "../../worker/src/runner/late-jobs.ts";

const ladder: Ladder = [
  [1, 100],
  [2, 120],
  [4, 160],
  [8, 240],
];

interface Job {
  name: string;
  items: number;
  deadlineMs: number;
}

/** Names of what is split: `a` has the first deadline given. */
function split(deadlinesMs: number[], how: { nowMs?: number; ladder?: Ladder; items?: number[] } = {}): { inTime: string; late: string } {
  const jobs = deadlinesMs.map((deadlineMs, at): Job => ({ name: "abcdefgh"[at]!, items: how.items?.[at] ?? 1, deadlineMs }));
  const { inTime, late } = splitLate(jobs, { nowMs: how.nowMs ?? 1_000, ladder: how.ladder });
  const names = (some: readonly Job[]): string => some.map(({ name }) => name).join("");
  return { inTime: names(inTime), late: names(late) };
}

test("while nothing is known of run times, what is over is late, and what would be before a run has begun", () => {
  assert.deepEqual(split([1_005, 1_000, 999, 1_004, 5_000]), { inTime: "ae", late: "cbd" });
});

test("a job that the run of its batch would make late is split off", () => {
  assert.deepEqual(split([1_119, 2_000], { ladder }), { inTime: "b", late: "a" });
  assert.deepEqual(split([1_120, 2_000], { ladder }), { inTime: "ab", late: "" });
});

test("with one job less the run is shorter, and the next may be in time after all", () => {
  // three take as long as four: 160 ms; two 120 ms, so that one has to go and not two
  assert.deepEqual(split([1_130, 1_110, 1_500], { ladder }), { inTime: "ac", late: "b" });
});

test("items count, not jobs", () => {
  assert.deepEqual(split([1_239, 1_300], { ladder, items: [7, 1] }), { inTime: "b", late: "a" });
  assert.deepEqual(split([1_150, 1_300], { ladder, items: [1, 7] }), { inTime: "b", late: "a" });
});

test("what is in time stays in the order of the batch", () => {
  assert.deepEqual(split([3_000, 900, 2_000, 4_000], { ladder }), { inTime: "acd", late: "b" });
});

test("a batch of which nothing is in time is late as a whole", () => {
  assert.deepEqual(split([1_050, 1_099], { ladder }), { inTime: "", late: "ab" });
  assert.deepEqual(split([], { ladder }), { inTime: "", late: "" });
});
