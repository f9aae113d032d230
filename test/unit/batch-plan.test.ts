import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ladder } from "@switchyard/protocol";
import fc from "fast-check";
import {
  type ClaimFigures,
  cannotFinish,
  deferUntil,
  type Head,
  leastBatch,
  mayJoin,
  waitingAlike,
} from "../../coordinator/src/scheduler/batch-plan.ts";

const ladder: Ladder = [
  [1, 10],
  [2, 12],
  [4, 16],
  [8, 24],
];
const figures = (changes: Partial<ClaimFigures> = {}): ClaimFigures => ({
  nowMs: 1_000,
  ladder,
  overheadMs: 2,
  maxItems: 8,
  delayMs: 0,
  waitingJobs: 1,
  ...changes,
});

test("a job that would end late even alone cannot finish; one that ends on its deadline can", () => {
  assert.deepEqual(
    [1_011, 1_012].map((deadlineMs) => cannotFinish({ items: 1, deadlineMs }, figures())),
    [true, false],
  );
  assert.deepEqual(
    [1_017, 1_018].map((deadlineMs) => cannotFinish({ items: 3, deadlineMs }, figures())),
    [true, false],
  );
});

test("the more jobs wait, the larger is the smallest batch that is worth running: half of them, up to the largest", () => {
  const waiting = [0, 1, 3, 4, 7, 8, 15, 16, 1_000];
  assert.deepEqual(
    waiting.map((waitingJobs) => leastBatch(figures({ waitingJobs }))),
    [1, 1, 1, 2, 2, 4, 4, 8, 8],
  );
  assert.equal(leastBatch(figures({ waitingJobs: 1_000, maxItems: 12 })), 8);
  assert.equal(leastBatch(figures({ waitingJobs: 1_000, maxItems: 1 })), 1);
});

test("while many wait, a job that would be late in a batch cannot finish, though it could alone", () => {
  const deadlineMs = 1_013;
  assert.ok(!cannotFinish({ items: 1, deadlineMs }, figures({ waitingJobs: 3 })));
  assert.ok(cannotFinish({ items: 1, deadlineMs }, figures({ waitingJobs: 4 })), "a run of two ends at 1014");
  assert.ok(!cannotFinish({ items: 1, deadlineMs }, figures({ waitingJobs: 400, ladder: undefined })));
});

test("who could share a batch is told by the shapes of those that were looked at", () => {
  assert.equal(waitingAlike(1_000, { seen: 64, alike: 64 }), 1_000, "one shape");
  assert.equal(waitingAlike(1_000, { seen: 64, alike: 1 }), 1, "a shape for every job");
  assert.equal(waitingAlike(1_001, { seen: 65, alike: 17 }), 251, "four shapes");
  assert.equal(waitingAlike(5, { seen: 1, alike: 1 }), 5, "nothing else was seen");
});

test("without a ladder only what is over cannot finish, whatever the overhead", () => {
  const blind = figures({ ladder: undefined });
  assert.deepEqual(
    [999, 1_000, 1_001].map((deadlineMs) => cannotFinish({ items: 9, deadlineMs }, blind)),
    [true, true, false],
  );
  assert.ok(mayJoin({ items: 100, deadlineMs: 1_001 }, { items: 100, deadlineMs: 1_001 }, blind));
});

test("a batch grows while all of its members end in time", () => {
  const batch = { items: 2, deadlineMs: 1_018 };
  assert.ok(mayJoin(batch, { items: 2, deadlineMs: 9_000 }, figures()));
  assert.ok(!mayJoin(batch, { items: 3, deadlineMs: 9_000 }, figures()), "five items take too long for a member");
  assert.ok(!mayJoin({ ...batch, deadlineMs: 9_000 }, { items: 2, deadlineMs: 1_017 }, figures()), "or for the newcomer");
});

test("whoever joined a batch could have finished alone", () => {
  const job = fc.record({ items: fc.integer({ min: 1, max: 8 }), deadlineMs: fc.integer({ min: 990, max: 1_060 }) });
  fc.assert(
    fc.property(job, job, (batch, other) => {
      if (mayJoin(batch, other, figures())) assert.ok(!cannotFinish(batch, figures()) && !cannotFinish(other, figures()));
    }),
  );
});

const head = (changes: Partial<Head> = {}): Head => ({
  class: "standard",
  createdMs: 995,
  deadlineMs: 9_000,
  runsAlone: false,
  ...changes,
});

test("the oldest job waits for company as long as the model allows, and no longer", () => {
  assert.equal(deferUntil([head()], 1, figures({ delayMs: 20 })), 1_015);
  assert.equal(deferUntil([head(), head({ createdMs: 990 })], 2, figures({ delayMs: 20 })), 1_010);
  assert.equal(deferUntil([head()], 1, figures({ delayMs: 5 })), undefined, "its time has come");
});

test("nobody waits where no delay is set, a batch is full, or nothing waits", () => {
  assert.equal(deferUntil([head()], 1, figures()), undefined);
  assert.equal(deferUntil([head()], 8, figures({ delayMs: 20 })), undefined);
  assert.equal(deferUntil([], 0, figures({ delayMs: 20 })), undefined);
  assert.equal(deferUntil([head(), head({ runsAlone: true })], 2, figures({ delayMs: 20 })), undefined, "nor for one that runs alone");
});

test("waiting ends while the next larger batch can still be run in time", () => {
  // three wait; a run of four takes 16, the overhead 2, the margin 5
  assert.equal(deferUntil([head({ deadlineMs: 1_030 })], 3, figures({ delayMs: 20 })), 1_007);
  // four wait, and the next batch is of eight: 24 + 2 + 5
  assert.equal(deferUntil([head({ deadlineMs: 1_030 })], 4, figures({ delayMs: 20 })), undefined);
});

test("an interactive job waits at most a tenth of its time", () => {
  assert.equal(deferUntil([head({ class: "interactive", createdMs: 1_000, deadlineMs: 1_100 })], 1, figures({ delayMs: 50 })), 1_010);
  assert.equal(deferUntil([head({ createdMs: 1_000, deadlineMs: 1_100 })], 1, figures({ delayMs: 50 })), 1_050);
});
