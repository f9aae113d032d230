/** Whose time on a shared device is whose: what a host counts, and what a coordinator makes of it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type DeviceTime, shareOf, staleAfterMs, together, undivided } from "@switchyard/protocol";
import { DeviceTimes } from "../../worker/src/runner/device-times.ts";

const nowMs = 1_000_000;
const time = (agoMs: number, ownMs: number, othersMs: number, runs = 1): DeviceTime => ({ atMs: nowMs - agoMs, runs, ownMs, othersMs });

test("a queue's share is its own time of that and what others had while it waited", () => {
  assert.deepEqual(shareOf([time(0, 30, 10)], nowMs), { share: 0.75, betweenMs: 10 });
  assert.deepEqual(shareOf([time(0, 300, 100, 10)], nowMs), { share: 0.75, betweenMs: 10 }, "before each of ten runs");
});

test("who shares with nobody, or of whom nothing is known, has all of it", () => {
  assert.deepEqual(shareOf([], nowMs), undivided);
  assert.deepEqual(shareOf([time(0, 30, 0)], nowMs), undivided);
  assert.deepEqual(shareOf([time(0, 0, 30)], nowMs), undivided, "a run that took no time would make a share of nothing");
});

test("hosts of a class count together, by what each had of them", () => {
  assert.deepEqual(shareOf([time(20, 40, 0, 2), time(10, 20, 20), time(0, 20, 20)], nowMs), { share: 80 / 120, betweenMs: 10 });
});

test("the last second and a half speak, and as much of what was before as it takes to have twenty runs", () => {
  const lately = time(1_400, 10, 10, 10);
  assert.equal(shareOf([time(3_000, 10, 50, 10), lately, time(0, 10, 10, 10)], nowMs).share, 0.5, "enough without the oldest");
  assert.equal(shareOf([time(3_000, 10, 50, 10), lately, time(0, 10, 10, 9)], nowMs).share, 30 / 100);
  assert.equal(shareOf([time(1_501, 10, 50, 10), time(0, 20, 20, 20)], nowMs).share, 0.5);
});

test("the order in which hosts told does not matter", () => {
  const times = [time(0, 20, 20, 20), time(2_000, 10, 50, 10)];
  assert.deepEqual(shareOf(times, nowMs), shareOf(times.toReversed(), nowMs));
});

test("what nothing has confirmed for five seconds binds nobody", () => {
  assert.equal(shareOf([time(staleAfterMs, 10, 30)], nowMs).share, 0.25);
  assert.deepEqual(shareOf([time(staleAfterMs + 1, 10, 30)], nowMs), undivided);
  assert.equal(shareOf([time(staleAfterMs + 1, 10, 90), time(0, 10, 30)], nowMs).share, 0.25, "nor does the older part of a few runs");
});

test("times of runs one after the other are told as one", () => {
  assert.deepEqual(together(undefined, time(5, 1, 2)), time(5, 1, 2));
  assert.deepEqual(together(time(5, 1, 2, 3), time(0, 4, 5)), time(0, 5, 7, 4));
});

test("a queue that waits is told how long others ran meanwhile", () => {
  const times = new DeviceTimes();
  times.waits("a");
  assert.equal(times.ran("b", 10), 0);
  assert.equal(times.ran("c", 20), 0);
  assert.equal(times.ran("a", 5), 30);
  times.ran("b", 7);
  assert.equal(times.ran("a", 5), 7, "since its own last run, with no word that it has more work");
  assert.equal(times.ran("b", 1), 5);
});

test("a queue in which nothing waits is not kept waiting", () => {
  const times = new DeviceTimes();
  times.ran("a", 5);
  times.rests("a");
  times.ran("b", 100);
  times.waits("a");
  times.ran("b", 10);
  times.waits("a"); // it waits already
  assert.equal(times.ran("a", 5), 10);
  times.rests("a");
  times.ran("b", 10);
  assert.equal(times.ran("a", 5), 0, "of a queue that nobody said to wait nothing is known");
});

test("of a run that has begun only the rest is waited for", () => {
  const times = new DeviceTimes();
  times.waits("a", 8);
  times.ran("b", 10);
  assert.equal(times.ran("a", 5), 2);
  times.rests("a");
  times.ran("b", 10);
  times.waits("a", -4); // it came 4 ms before the end of that, and is heard of now
  assert.equal(times.ran("a", 5), 4);
  times.rests("a");
  times.waits("a", 30); // a run that took shorter than was thought
  times.ran("b", 10);
  assert.equal(times.ran("a", 5), 0);
});
