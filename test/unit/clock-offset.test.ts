import assert from "node:assert/strict";
import { test } from "node:test";
import { ClockOffset } from "../../coordinator/src/adapters/clock-offset.ts";

/** A server whose clock is ahead by `aheadMs` is asked at `askedMs`; its answer is on the way for so long, there and back. */
function ask(
  offset: ClockOffset,
  { askedMs, thereMs, backMs, aheadMs }: { askedMs: number; thereMs: number; backMs: number; aheadMs: number },
): void {
  offset.add({ serverMs: askedMs + thereMs + aheadMs, nowMs: askedMs + thereMs + backMs, tookMs: thereMs + backMs });
}

test("an answer that waited in a busy process does not put the server's clock back", () => {
  const offset = new ClockOffset();
  assert.equal(offset.ms, 0);
  ask(offset, { askedMs: 1_000, thereMs: 400, backMs: 2_400, aheadMs: 50 });
  assert.equal(offset.ms, -950, "all that is known is one slow answer");
  ask(offset, { askedMs: 4_000, thereMs: 0.5, backMs: 0.5, aheadMs: 50 });
  assert.equal(offset.ms, 50);
  for (let at = 0; at < 15; at++) {
    ask(offset, { askedMs: 5_000 + 2_500 * at, thereMs: 1, backMs: 2_000, aheadMs: 50 });
    assert.equal(offset.ms, 50, `after ${at + 1} slow answers`);
  }
  ask(offset, { askedMs: 50_000, thereMs: 1, backMs: 2, aheadMs: 50 });
  assert.equal(offset.ms, 49.5, "the quickest is forgotten in the end");
});

test("a clock that is set by more than an answer takes, ours or the server's, is followed at once, and another server by its first answer", () => {
  const offset = new ClockOffset();
  for (const aheadMs of [0, 5_000, -300_000, 4, 0.2]) {
    for (let at = 0; at < 3; at++) ask(offset, { askedMs: 1_000 * at, thereMs: 0.5, backMs: 0.5, aheadMs });
    assert.ok(Math.abs(offset.ms - aheadMs) < 1e-6, `${offset.ms} instead of ${aheadMs}`);
  }
  ask(offset, { askedMs: 9_000, thereMs: 20, backMs: 20, aheadMs: 0.2 });
  offset.otherServer();
  assert.ok(Math.abs(offset.ms - 0.2) < 1e-6, "until it has answered");
  ask(offset, { askedMs: 10_000, thereMs: 20, backMs: 20, aheadMs: 15 });
  assert.equal(offset.ms, 15);
});
