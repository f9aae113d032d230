/** What answers tell of the store's time: it lies between their sending and their coming. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { StoreClock } from "../../worker/src/runner/store-clock.ts";

let localMs = 0;
let wallMs = 0;
const clock = { monotonicMs: () => localMs, nowMs: () => wallMs };

test("before anything was heard the store may be later than any time", () => {
  const store = new StoreClock(clock);
  assert.equal(store.latestNowMs(), Number.POSITIVE_INFINITY);
});

test("the store's time is at least what the quickest way of an answer has shown, and at most what its sending allows", () => {
  const store = new StoreClock(clock);
  // sent at 1,000, done at 5,000 of the store, back at 1,010: it is 3,990 to 4,000 ahead
  localMs = 1_010;
  store.heard(5_000, 1_000);
  assert.deepEqual([store.nowMs(), store.latestNowMs()], [5_000, 5_010]);
  assert.deepEqual([store.storeMs(2_000), store.localMs(6_000), store.earliestLocalMs(6_000)], [5_990, 2_010, 2_000]);
  // a slower one, 3,980 to 4,005: the first one's least holds
  localMs = 2_025;
  store.heard(6_005, 2_000);
  assert.deepEqual([store.nowMs(), store.latestNowMs()], [6_015, 6_030]);
});

test("where the store is behind what was known, that gives way", () => {
  const store = new StoreClock(clock);
  localMs = 1_000;
  store.heard(5_000, 1_000);
  localMs = 2_000;
  store.heard(5_900, 1_990);
  assert.deepEqual([store.nowMs(), store.latestNowMs()], [5_910, 5_910]);
});

test("what is kept from now on is kept by the store's clock, whatever this machine's shows, and not for less where it has slept", () => {
  const store = new StoreClock(clock);
  wallMs = 777;
  assert.equal(store.keepingFromMs(), 777, "nothing was heard yet");
  localMs = 1_010;
  wallMs = 90_000_000; // far ahead of the store
  store.heard(5_000, 1_000);
  assert.equal(store.keepingFromMs(), 5_010);
  // asleep for an hour, which only the machine's own clock has counted
  localMs += 20;
  wallMs += 3_600_000;
  assert.equal(store.keepingFromMs(), 3_605_000);
  // and set back, which only the other has not
  wallMs -= 7_200_000;
  assert.equal(store.keepingFromMs(), 5_030);
});
