import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobView } from "@switchyard/protocol";
import { sweepRange, wholeSweepRange } from "../../client-sdk/src/cli/bench/sweep-range.ts";
import { bisect } from "../bench/bisection.ts";
import { jain, quantile, worstMissPercent } from "../bench/fairness.ts";
import { budget } from "../bench/rows/budget.ts";
import { startedLate } from "../bench/systems/job-views.ts";
import { quantileBetween, sumOf } from "../bench/systems/prometheus-text.ts";

test("bisection comes near the highest rate that holds, from above and from below", async () => {
  for (const [limit, from] of [
    [137, 100],
    [137, 150],
    [40, 100],
  ] as const) {
    const { best, probes } = await bisect({ from, probes: 8, holds: async (rate) => ({ holds: rate <= limit, seen: rate }) });
    assert.ok(best! <= limit && best! > 0.95 * limit, `${best} of ${limit}`);
    assert.equal(probes.length, 8);
  }
  const { best } = await bisect({ from: 100, probes: 4, holds: async () => ({ holds: false, seen: 0 }) });
  assert.equal(best, undefined);
});

test("Jain's index and shares by weight tell fair from unfair", () => {
  assert.equal(jain([5, 5, 5]), 1);
  assert.equal(jain([9, 0, 0]), 1 / 3);
  const share = (got: number[]) => worstMissPercent(got.map((each, at) => ({ got: each, weight: [1, 2, 4][at]! })));
  assert.ok(share([100, 200, 400]) < 1e-9);
  assert.ok(Math.abs(share([110, 200, 390]) - 10) < 1e-9);
});

test("a quantile is the nearest rank, and there is none of nothing", () => {
  assert.equal(quantile([3, 1, 2, 4], 0.5), 2);
  assert.equal(quantile([3, 1, 2, 4], 0.99), 4);
  assert.equal(quantile([], 0.5), undefined);
});

test("a promise is judged by the median of its quiet rounds, and not kept when there is nothing to judge", () => {
  const round = (value: number | undefined, isQuiet: boolean) => ({ value, isQuiet });
  const judge = (rounds: ReturnType<typeof round>[]) => budget({ text: "", rounds, limit: 2, better: "lower" });
  assert.equal(judge([round(1, true), round(9, false), round(2, true), round(1.5, true)]).isMet, true);
  assert.equal(judge([round(1, true), round(3, true), round(4, true)]).isMet, false);
  assert.equal(judge([round(9, false)]).value?.median, 9);
  const nothing = judge([round(undefined, true)]);
  assert.deepEqual([nothing.isMet, nothing.value, nothing.rounds], [false, undefined, []]);
});

const page = (fast: number, slow: number): string =>
  [
    "# TYPE admission histogram",
    `admission_bucket{le="0.001",answer="refused"} ${fast}`,
    `admission_bucket{le="0.005",answer="refused"} ${fast + slow}`,
    `admission_bucket{le="+Inf",answer="refused"} ${fast + slow}`,
    'admission_bucket{le="0.001",answer="admitted"} 7',
    'admission_bucket{le="+Inf",answer="admitted"} 7',
    'runs_total{model="a"} 3',
    'runs_total{model="b"} 4',
    "up 1",
  ].join("\n");

test("figures are read from a page of metrics by name and labels", () => {
  assert.equal(sumOf(page(1, 1), "runs_total"), 7);
  assert.equal(sumOf(page(1, 1), "runs_total", { model: "b" }), 4);
  assert.equal(sumOf(page(1, 1), "up"), 1);
  assert.equal(sumOf(page(1, 1), "runs"), undefined);
});

test("a quantile is of what a histogram saw between two pages", () => {
  const seen = (share: number) =>
    quantileBetween({ before: page(100, 0), after: page(100, 50), name: "admission", labels: { answer: "refused" }, share });
  assert.ok(Math.abs(seen(0.5)! - 0.003) < 1e-9, `${seen(0.5)}`);
  assert.equal(quantileBetween({ before: page(1, 1), after: page(1, 1), name: "admission", share: 0.5 }), undefined);
});

test("a run that can only have begun after the deadline is found in the job's record", () => {
  const at = (ms: number): string => new Date(1_700_000_000_000 + ms).toISOString();
  const job = (times: { claimed?: number; ended: number; runMs: number }): JobView =>
    ({
      deadline: at(100),
      ...(times.claimed !== undefined && { started_at: at(times.claimed) }),
      finished_at: at(times.ended),
      timings: { queue_ms: 0, run_ms: times.runMs, total_ms: times.ended, batch_items: 1 },
    }) as JobView;
  assert.equal(startedLate(job({ claimed: 70, ended: 95, runMs: 20 })), false);
  assert.equal(startedLate(job({ claimed: 90, ended: 115, runMs: 20 })), false, "it ended too late, which is another matter");
  assert.equal(startedLate(job({ claimed: 101, ended: 125, runMs: 20 })), true);
  assert.equal(startedLate(job({ claimed: 80, ended: 125, runMs: 20 })), true, "claimed in time, and left lying");
  assert.equal(startedLate(job({ ended: 100, runMs: 0 })), false, "it never ran");
});

test("a sweep's range is a number, a rising list, a doubling or steps", () => {
  assert.deepEqual(sweepRange("8"), [8]);
  assert.deepEqual(sweepRange("1,4,16"), [1, 4, 16]);
  assert.deepEqual(sweepRange("1:64"), [1, 2, 4, 8, 16, 32, 64]);
  assert.deepEqual(sweepRange("1:10"), [1, 2, 4, 8, 10]);
  assert.deepEqual(sweepRange("50:200:50"), [50, 100, 150, 200]);
  for (const wrong of ["", "0", "-1", "4,2", "1:", "8:4", "1:8:0", "1:2:3:4", "NaN", "1e3", "1:1000:1"])
    assert.throws(() => sweepRange(wrong), /Give|give/, wrong);
  assert.throws(() => wholeSweepRange("1.5"), /whole/);
});
