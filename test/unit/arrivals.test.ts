import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Arrivals } from "../../coordinator/src/scheduler/arrivals.ts";

const startMs = 1_700_000_000_000;
const spans = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000];

/** `perS` items a second, one by one, for so long. */
function steady(perS: number, forMs: number, of = new Arrivals(), fromMs = startMs): { arrivals: Arrivals; endMs: number } {
  for (let at = 0; at < (forMs * perS) / 1_000; at++) of.add(1, fromMs + (at * 1_000) / perS);
  return { arrivals: of, endMs: fromMs + forMs };
}

const near = (got: number, wanted: number, part: number): void =>
  assert.ok(Math.abs(got - wanted) <= part * wanted, `${got}, about ${wanted} was expected`);

test("of nothing nothing is expected", () => {
  for (const withinMs of [0, 1, 500, 1e6]) assert.equal(new Arrivals().expected(withinMs, startMs), 0);
});

test("a steady flow is expected to go on as it is, for any time", () => {
  const { arrivals, endMs } = steady(50, 200_000);
  for (const withinMs of [20, 300, 1_000, 5_000, 30_000, 200_000]) near(arrivals.expected(withinMs, endMs), withinMs / 20, 0.05);
});

test("a burst is expected to go on for a moment, and for a long time hardly", () => {
  const { arrivals, endMs } = steady(1_000, 500);
  const parts = spans.map((withinMs) => arrivals.expected(withinMs, endMs) / withinMs); // of one item in each millisecond
  assert.ok(parts[0]! > 0.5 && parts[0]! <= 1, `${parts[0]}`);
  for (const [at, part] of parts.entries()) if (at > 0) assert.ok(part < parts[at - 1]!, `${part} of ${spans[at]} ms`);
  near(arrivals.expected(64_000, endMs), 500 / 0.7, 0.02);
});

test("a flow that has begun is expected in full after three times the time that is looked ahead", () => {
  for (const withinMs of spans) {
    const { arrivals, endMs } = steady(100, 3 * withinMs);
    near(arrivals.expected(withinMs, endMs), withinMs / 10, 0.05);
  }
});

test("a flow that has stopped is forgotten as fast", () => {
  const { arrivals, endMs } = steady(100, 200_000);
  for (const withinMs of spans) assert.ok(arrivals.expected(withinMs, endMs + 3 * withinMs) < (0.02 * withinMs) / 10);
  assert.ok(!arrivals.isOver(endMs + 60_000));
  assert.ok(arrivals.isOver(endMs + 65_000));
});

test("a clock that goes back makes nothing of what came, and from then on all of it fades", () => {
  const { arrivals, endMs } = steady(100, 10_000);
  const before = arrivals.expected(1_000, endMs);
  assert.ok(arrivals.expected(1_000, endMs - 60_000) >= before);
  const { endMs: laterMs } = steady(100, 10_000, arrivals, endMs - 60_000);
  for (const withinMs of [1_000, 2_000]) near(arrivals.expected(withinMs, laterMs), withinMs / 10, 0.05);
  assert.ok(arrivals.isOver(laterMs + 65_000) && arrivals.isOver(laterMs - 65_000));
});

test("what comes together counts as what comes one by one", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.nat({ max: 3_000 })), { maxLength: 30 }),
      fc.nat({ max: 90_000 }),
      (steps, withinMs) => {
        const [together, apart] = [new Arrivals(), new Arrivals()];
        let nowMs = startMs;
        for (const [items, passedMs] of steps) {
          nowMs += passedMs;
          together.add(items, nowMs);
          for (let at = 0; at < items; at++) apart.add(1, nowMs);
        }
        const [one, other] = [together, apart].map((arrivals) => arrivals.expected(withinMs, nowMs)) as [number, number];
        assert.ok(Math.abs(one - other) <= 1e-9 * Math.max(1, one));
      },
    ),
  );
});
