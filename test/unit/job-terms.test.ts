import assert from "node:assert/strict";
import { test } from "node:test";
import { jobTerms } from "../../coordinator/src/scheduler/job-terms.ts";

const left = (timeoutMs: number | undefined, spentMs: number, config = {}): [number, number] => {
  const terms = jobTerms({ ...(timeoutMs !== undefined && { timeoutMs }), spentMs }, config, 0);
  assert.equal(terms.latestStartMs, terms.timeoutMs);
  return [terms.timeoutMs, terms.spentMs];
};

test("what a request has spent is taken from its time, from a tenth of it on or 50 ms", () => {
  assert.deepEqual(left(500, 49), [500, 0], "a little is covered by the margin");
  assert.deepEqual(left(500, 60.5), [439, 61]);
  assert.deepEqual(left(100, 9.5), [100, 0]);
  assert.deepEqual(left(100, 10), [90, 10]);
  assert.deepEqual(left(60_000, 50), [59_950, 50]);
  assert.deepEqual(left(50, 70), [1, 49], "there is no time of nothing");
});

test("it is taken from the time that a model or a class gives as well", () => {
  assert.deepEqual(left(undefined, 30, { default_timeout_ms: 200 }), [170, 30]);
  assert.deepEqual(left(undefined, 80), [59_920, 80]);
});
