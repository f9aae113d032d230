/** Whose time on a shared device is whose: what a host counts, and what a coordinator makes of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addedTime, backlogItemMs, type DeviceTime, sharingOf, staleAfterMs, undivided } from "@switchyard/protocol";
import { DeviceTimes } from "../../worker/src/runner/device-times.ts";

const nowMs = 1_000_000;
const time = (agoMs: number, ownMs: number, othersMs: number, more: Partial<DeviceTime> = {}): DeviceTime => ({
  ...{ atMs: nowMs - agoMs, runs: 1, ownMs, othersMs, idleMs: 0, idleRuns: 0, sharers: othersMs > 0 ? 20 : 1, host: 1 },
  ...more,
});
const shareOf = (...times: DeviceTime[]): number => sharingOf(times, nowMs).share;

test("a queue's share is its own time of that and what others had while it waited", () => {
  assert.deepEqual(sharingOf([time(0, 30, 10)], nowMs), { share: 0.75, betweenMs: 10, idleMs: 0 });
  assert.deepEqual(
    sharingOf([time(0, 300, 100, { runs: 10 })], nowMs),
    { share: 0.75, betweenMs: 10, idleMs: 0 },
    "before each of ten runs",
  );
});

test("a queue that has little to do gets its part of the sharers once it has more, whatever others took while it had not", () => {
  assert.deepEqual(sharingOf([time(0, 5, 495, { sharers: 2 })], nowMs), { share: 0.5, betweenMs: 495, idleMs: 0 });
  assert.equal(shareOf(time(0, 5, 495, { sharers: 4 })), 0.25);
});

test("who shares with nobody, or of whom nothing is known, has all of it", () => {
  assert.deepEqual(sharingOf([], nowMs), undivided);
  assert.deepEqual(sharingOf([time(0, 30, 0)], nowMs), undivided);
  assert.equal(shareOf(time(0, 0, 30, { sharers: 2 })), 0.5, "a run that took no time would make a share of nothing");
  assert.equal(shareOf(time(0, 10, 30, { sharers: 0 })), 1, "nonsense of one host");
});

test("what passes between runs while jobs wait is told for each of them, and a backlog shrinks more slowly by so much", () => {
  const sharing = sharingOf([time(0, 80, 0, { runs: 8, idleMs: 20, idleRuns: 5 })], nowMs);
  assert.deepEqual(sharing, { share: 1, betweenMs: 0, idleMs: 4 });
  assert.equal(backlogItemMs(2, 8, sharing), (16 + 4) / 8, "a full batch of 16 ms in 20");
  const shared = sharingOf([time(0, 30, 60, { idleMs: 6, idleRuns: 2 }), time(0, 30, 60, { host: 2 })], nowMs);
  assert.deepEqual(shared, { share: 1 / 3, betweenMs: 60, idleMs: 3 }, "of hosts that know");
  assert.equal(backlogItemMs(2, 8, shared), (48 + 3) / 8);
  assert.equal(backlogItemMs(2, 8, undivided), 2);
});

test("each host of a class counts for one, whatever it ran and how often it tells", () => {
  const shared = time(0, 20, 60, { runs: 2, host: 3 });
  const alone = time(10, 1, 0, { runs: 2, host: 2 });
  assert.deepEqual(sharingOf([time(20, 400, 0, { runs: 8 }), alone, shared], nowMs), { share: 2.25 / 3, betweenMs: 5, idleMs: 0 });
  assert.equal(shareOf(time(900, 1, 0, { host: 2 }), time(500, 1, 0, { host: 2 }), alone, shared), 1.25 / 2);
});

test("of a host the last second and a half speak, and as much of what was before as it takes to have twenty runs", () => {
  const lately = time(1_400, 10, 10, { runs: 10 });
  const before = time(3_000, 10, 70, { runs: 10 });
  assert.equal(shareOf(before, lately, time(0, 10, 10, { runs: 10 })), 0.5, "enough without the oldest");
  assert.equal(shareOf(before, lately, time(0, 10, 10, { runs: 9 })), 30 / 120);
  assert.equal(shareOf(time(1_501, 10, 50, { runs: 10 }), time(0, 20, 20, { runs: 20 })), 0.5);
  const other = { host: 2 };
  assert.equal(
    shareOf(time(3_000, 30, 10, { ...other, runs: 30 }), time(0, 10, 10, { runs: 30 })),
    1.25 / 2,
    "of a host that tells seldom its last one",
  );
});

test("where others had the device for long, both sides of their turn count", () => {
  const own = time(1_200, 1_000, 0, { runs: 50 });
  const after = time(0, 200, 1_200, { runs: 10 });
  assert.equal(shareOf(own, after), 0.5);
  assert.equal(shareOf(after, { ...own, atMs: nowMs + 500 }), 0.5);
  const older = time(2_400, 200, 1_200, { runs: 10 });
  assert.equal(shareOf(older, own, after), 1_400 / 3_800);
  assert.equal(shareOf(time(4_000, 200, 1_200, { runs: 10 }), own, after), 0.5, "no more than that");
});

test("what nothing has confirmed for five seconds binds nobody, nor what a clock has told that ran ahead", () => {
  assert.equal(shareOf(time(staleAfterMs, 10, 30)), 0.25);
  assert.deepEqual(sharingOf([time(staleAfterMs + 1, 10, 30)], nowMs), undivided);
  assert.equal(shareOf(time(staleAfterMs + 1, 10, 90), time(0, 10, 30)), 0.25, "nor does the older part of a few runs");
  assert.equal(shareOf(time(-1_000, 10, 30)), 0.25, "the coordinator's idea of the store's clock may lag");
  assert.deepEqual(sharingOf([time(-1_001, 10, 30)], nowMs), undivided);
});

test("times of runs one after the other are told as one", () => {
  assert.deepEqual(addedTime(undefined, time(5, 1, 2)), time(5, 1, 2));
  assert.deepEqual(
    addedTime(time(5, 1, 2, { runs: 3, sharers: 4, idleMs: 3, idleRuns: 2 }), time(0, 4, 5, { sharers: 2, idleMs: 6, idleRuns: 1 })),
    time(0, 5, 7, { runs: 4, sharers: 4, idleMs: 9, idleRuns: 3 }),
  );
});

/** Queues of one letter are of one model: `A` is one of jobs with a requirement of their own. */
const queue = (tag: string) => ({ tag, model: tag.toLowerCase() });

/** What is told of the last of some runs, as `a10` for 10 ms of queue a; a time without a name passes idly. `waitedMs`: of the last one's jobs. */
function lastOf(turns: string, waitedMs: number, isInOrder = true) {
  const times = new DeviceTimes();
  let atMs = 1_000;
  let found: ReturnType<DeviceTimes["ran"]> | undefined;
  for (const turn of turns.split(" ")) {
    const [, tag, ms] = turn.match(/^([a-zA-Z]?)(\d+)$/) as unknown as [string, string, string];
    const beganMs = atMs;
    atMs += Number(ms);
    if (tag) found = times.ran(queue(tag), { beganMs, endMs: atMs, waitedMs, isInOrder });
  }
  return found!;
}

function others(turns: string, waitedMs: number): { othersMs: number; sharers: number } {
  const { othersMs, sharers } = lastOf(turns, waitedMs);
  return { othersMs, sharers };
}

function idle(turns: string, waitedMs: number, isInOrder = true): number | undefined {
  const { idleMs, idleRuns } = lastOf(turns, waitedMs, isInOrder);
  assert.ok(idleRuns === 1 || idleMs === 0);
  return idleRuns === 0 ? undefined : idleMs;
}

test("where jobs waited on from the queue's last run to the next, a queue is told how long nobody ran", () => {
  assert.equal(idle("a5 3 a5", 1_000), 3);
  assert.equal(idle("a5 a5", 1_000), 0, "claimed ahead");
  assert.equal(idle("a5 3 a5 2 a5", 1_000), 2, "since the last one");
  assert.equal(idle("a5 3 b10 2 a5", 1_000), 5);
  assert.equal(idle("a5 b10 a5", 1_000), 0);
  assert.equal(idle("a5 3 a5", 4), 3, "they came while it ran");
  assert.equal(idle("a5 3 a5", 3), undefined, "none was there when it ended: what came had to be fetched first");
  assert.equal(idle("7 a5", 1_000), undefined, "before its first");
  assert.equal(idle("a5 100 a5", 60_000), 100);
  assert.equal(idle("a5 101 a5", 60_000), undefined, "a longer pause is no cost of each run");
  assert.equal(idle("a5 3 a5", 1_000, false), undefined, "a run between them may not have been told");
});

test("a queue whose jobs have waited is told how long others ran since its last run", () => {
  assert.deepEqual(others("a5 b10 c20 a5", 1_000), { othersMs: 30, sharers: 3 });
  assert.deepEqual(others("a5 b10 b10 7 c20 b10 a5", 1_000), { othersMs: 50, sharers: 3 });
  assert.deepEqual(others("b50 a5 b10 a5", 1_000), { othersMs: 10, sharers: 2 });
  assert.deepEqual(others("a5 a5", 1_000), { othersMs: 0, sharers: 1 });
  assert.deepEqual(others("b10 c20 a5", 1_000), { othersMs: 30, sharers: 3 }, "also before its first");
});

test("what others ran before its oldest job came is nothing to a queue", () => {
  assert.deepEqual(others("a5 b100 c20 a5", 12), { othersMs: 12, sharers: 2 });
  assert.deepEqual(others("a5 b100 c20 a5", 40), { othersMs: 40, sharers: 3 });
  assert.deepEqual(others("a5 b100 a5", 0), { othersMs: 0, sharers: 1 });
  assert.deepEqual(others("a5 b40 20 b40 a5", 70), { othersMs: 56, sharers: 2 }, "of a neighbour's turn with a gap its part by time");
});

test("an even part is one by the number of models, and within a model by that of its queues", () => {
  assert.deepEqual(others("a5 b10 A10 c10 a5", 1_000), { othersMs: 30, sharers: 6 });
  assert.deepEqual(others("a5 b10 B10 a5", 1_000), { othersMs: 20, sharers: 2 });
});

test("runs that are told of in another order than they ran count where they lay", () => {
  const times = new DeviceTimes();
  times.ran(queue("b"), { beganMs: 100, endMs: 120, waitedMs: 0, isInOrder: true });
  times.ran(queue("c"), { beganMs: 0, endMs: 100, waitedMs: 0, isInOrder: true }); // it had to put large outputs away
  assert.deepEqual(times.ran(queue("b"), { beganMs: 130, endMs: 140, waitedMs: 200, isInOrder: true }), {
    othersMs: 0,
    idleMs: 10,
    idleRuns: 1,
    sharers: 1,
  });
  assert.deepEqual(times.ran(queue("a"), { beganMs: 140, endMs: 150, waitedMs: 50, isInOrder: true }), {
    othersMs: 40,
    idleMs: 0,
    idleRuns: 0,
    sharers: 3,
  });
});

test("a run that is told of late and lay in its queue's own turn does not shorten it", () => {
  const times = new DeviceTimes();
  for (const [beganMs, endMs] of [
    [0, 10],
    [20, 30],
    [12, 15],
  ] as const)
    times.ran(queue("b"), { beganMs, endMs, waitedMs: 0, isInOrder: true });
  assert.deepEqual(times.ran(queue("a"), { beganMs: 30, endMs: 31, waitedMs: 15, isInOrder: true }), {
    othersMs: 11.5,
    idleMs: 0,
    idleRuns: 0,
    sharers: 2,
  });
});

test("between two runs of a long model there may be thousands of short ones", () => {
  const turns = Array.from({ length: 3_000 }, (_one, at) => `${at % 2 ? "b" : "c"}1`);
  assert.deepEqual(others(["a500", ...turns, "a500"].join(" "), 10_000), { othersMs: 3_000, sharers: 3 });
  const most = Array.from({ length: 6_000 }, (_one, at) => `${at % 2 ? "b" : "c"}1`);
  assert.deepEqual(others(["a500", ...most, "a500"].join(" "), 10_000), { othersMs: 4_096, sharers: 3 });
});
