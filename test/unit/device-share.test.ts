/** Whose time on a shared device is whose: what a host counts, and what a coordinator makes of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { addedTime, type DeviceTime, sharingOf, staleAfterMs, undivided } from "@switchyard/protocol";
import { DeviceTimes } from "../../worker/src/runner/device-times.ts";

const nowMs = 1_000_000;
const time = (agoMs: number, ownMs: number, othersMs: number, more: Partial<DeviceTime> = {}): DeviceTime => ({
  ...{ atMs: nowMs - agoMs, runs: 1, ownMs, othersMs, sharers: othersMs > 0 ? 20 : 1 },
  ...more,
});
const shareOf = (...times: DeviceTime[]): number => sharingOf(times, nowMs).share;

test("a queue's share is its own time of that and what others had while it waited", () => {
  assert.deepEqual(sharingOf([time(0, 30, 10)], nowMs), { share: 0.75, betweenMs: 10 });
  assert.deepEqual(sharingOf([time(0, 300, 100, { runs: 10 })], nowMs), { share: 0.75, betweenMs: 10 }, "before each of ten runs");
});

test("a queue that has little to do gets its part of the sharers once it has more, whatever others took while it had not", () => {
  assert.deepEqual(sharingOf([time(0, 5, 495, { sharers: 2 })], nowMs), { share: 0.5, betweenMs: 495 });
  assert.equal(shareOf(time(0, 5, 495, { sharers: 4 })), 0.25);
});

test("who shares with nobody, or of whom nothing is known, has all of it", () => {
  assert.deepEqual(sharingOf([], nowMs), undivided);
  assert.deepEqual(sharingOf([time(0, 30, 0)], nowMs), undivided);
  assert.equal(shareOf(time(0, 0, 30, { sharers: 2 })), 0.5, "a run that took no time would make a share of nothing");
  assert.equal(shareOf(time(0, 10, 30, { sharers: 0 })), 1, "nonsense of one host");
});

test("each host of a class counts for one, whatever it ran", () => {
  const shared = time(0, 20, 60, { runs: 2 });
  assert.deepEqual(sharingOf([time(20, 400, 0, { runs: 8 }), time(10, 1, 0, { runs: 2 }), shared], nowMs), {
    share: 2.25 / 3,
    betweenMs: 5,
  });
});

test("the last second and a half speak, and as much of what was before as it takes to have twenty runs", () => {
  const lately = time(1_400, 10, 10, { runs: 10 });
  const before = time(3_000, 10, 30, { runs: 10 });
  assert.equal(shareOf(before, lately, time(0, 10, 10, { runs: 10 })), 0.5, "enough without the oldest");
  assert.equal(shareOf(before, lately, time(0, 10, 10, { runs: 9 })), 1.25 / 3);
  assert.equal(shareOf(time(1_501, 10, 50, { runs: 10 }), time(0, 20, 20, { runs: 20 })), 0.5);
});

test("what nothing has confirmed for five seconds binds nobody", () => {
  assert.equal(shareOf(time(staleAfterMs, 10, 30)), 0.25);
  assert.deepEqual(sharingOf([time(staleAfterMs + 1, 10, 30)], nowMs), undivided);
  assert.equal(shareOf(time(staleAfterMs + 1, 10, 90), time(0, 10, 30)), 0.25, "nor does the older part of a few runs");
});

test("times of runs one after the other are told as one", () => {
  assert.deepEqual(addedTime(undefined, time(5, 1, 2)), time(5, 1, 2));
  assert.deepEqual(
    addedTime(time(5, 1, 2, { runs: 3, sharers: 4 }), time(0, 4, 5, { sharers: 2 })),
    time(0, 5, 7, { runs: 4, sharers: 4 }),
  );
});

/** Runs one after the other, as `a10` for 10 ms of queue a; a time without a name passes idly. `waitedMs`: of the last one's jobs. */
function others(turns: string, waitedMs: number): { othersMs: number; sharers: number } {
  const times = new DeviceTimes();
  let atMs = 1_000;
  let found = { othersMs: 0, sharers: 0 };
  for (const turn of turns.split(" ")) {
    const [, tag, ms] = turn.match(/^([a-z]?)(\d+)$/) as unknown as [string, string, string];
    const beganMs = atMs;
    atMs += Number(ms);
    if (tag) found = times.ran(tag, { beganMs, endMs: atMs, waitedMs });
  }
  return found;
}

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

test("a run that is told of after it has begun another's turn counts where it lay", () => {
  const times = new DeviceTimes();
  times.ran("b", { beganMs: 0, endMs: 100, waitedMs: 0 });
  times.ran("c", { beganMs: 200, endMs: 260, waitedMs: 0 });
  assert.deepEqual(times.ran("a", { beganMs: 90, endMs: 120, waitedMs: 50 }), { othersMs: 50, sharers: 2 });
});

test("a host that has seen many turns knows the last", () => {
  const turns = Array.from({ length: 200 }, (_one, at) => `${at % 2 ? "b" : "c"}10`);
  assert.deepEqual(others([...turns, "a5"].join(" "), 10_000), { othersMs: 640, sharers: 3 });
});
