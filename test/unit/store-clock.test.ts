/** What doctor says of the store's clock. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { offsetOf } from "../../coordinator/src/embedded/store-check.ts";

test("a store that is slow to answer is not taken for one whose clock is off", () => {
  const asked = { beganMs: 10_000, endedMs: 13_000 };
  const cases = [
    [10_000, 0],
    [12_999, 0],
    [13_000, 0],
    [13_400, 400],
    [9_600.4, -400],
  ] as const;
  for (const [readMs, offsetMs] of cases) assert.equal(offsetOf(readMs, asked), offsetMs);
});
