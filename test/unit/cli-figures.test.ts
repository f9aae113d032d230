/** What the command line draws and computes: sparklines, bars, a job's timeline, rates between two looks at the cluster. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { inheritedTrace } from "../../client-sdk/src/cli/inherited-trace.ts";
import { jobTimeline } from "../../client-sdk/src/cli/job-timeline.ts";
import { barOf, sparkline } from "../../client-sdk/src/cli/sparkline.ts";
import { type ClusterSample, ratesBetween } from "../../client-sdk/src/cli/top/cluster-sample.ts";
import { topText } from "../../client-sdk/src/cli/top/top-text.ts";
import type { ModelStatistics } from "../../client-sdk/src/job-records.ts";
import { jobView } from "../support/job-views.ts";

test("a sparkline shows the last values, the largest at full height", () => {
  assert.equal(sparkline([0, 1, 2, 7], 4), "▁▂▃█");
  assert.equal(sparkline([9, 0, 7], 2), "▁█");
  assert.equal(sparkline([5], 3), "  █");
  assert.equal(sparkline([0, 0], 2), "▁▁");
  assert.equal(sparkline([], 2), "  ");
});

test("a bar shows at least one full cell, within its width", () => {
  assert.equal(barOf(4, { from: 0, to: 0.5 }), "██░░");
  assert.equal(barOf(4, { from: 0.5, to: 0.5 }), "░░█░");
  assert.equal(barOf(4, { from: 1, to: 1 }), "░░░█");
  assert.equal(barOf(4, { from: -1, to: 7 }), "████");
});

const ended = { started_at: "2026-01-01T00:00:01.000Z", finished_at: "2026-01-01T00:00:04.000Z" };

test("the timeline of a job that ended says where its time went", () => {
  const timings = { queue_ms: 1_000, run_ms: 1_500, total_ms: 3_000, batch_items: 7 };
  const text = jobTimeline(jobView("succeeded", { ...ended, timings, host: "worker-1" }), 0);
  assert.deepEqual(text.split("\n"), [
    `waited    ${"█".repeat(10)}${"░".repeat(20)}  1.0 s`,
    `ran       ${"░".repeat(10)}${"█".repeat(15)}${"░".repeat(5)}  1.5 s on worker-1 in a batch of 7`,
    `the rest  ${"░".repeat(25)}${"█".repeat(5)}  500 ms read inputs, stored the outcome`,
    "succeeded 56.0 s before its deadline",
  ]);
});

test("a job that failed says why, one that waits how long, one that never ran only that it waited", () => {
  const error = { code: "run_failed", detail: "node Add failed", retryable: true };
  const timings = { queue_ms: 10, run_ms: 0, total_ms: 20, batch_items: 0 };
  const failed = jobTimeline(jobView("failed", { ...ended, attempt: 3, timings, error }), 0);
  assert.match(failed, /^waited .* 10 ms and 2 earlier attempts$/m);
  assert.match(failed, /^failed 56\.0 s before its deadline: node Add failed \[run_failed\]$/m);
  const nowMs = Date.parse("2026-01-01T00:00:02.000Z");
  assert.match(jobTimeline(jobView("queued"), nowMs), /^waiting {2}█{30} {2}2\.0 s\nqueued, now 58\.0 s before its deadline$/);
  assert.match(
    jobTimeline(jobView("running", { started_at: ended.started_at }), nowMs),
    /^waited .* 1\.0 s\nrunning .* 1\.0 s\nrunning, now/,
  );
  const expired = jobView("expired", { finished_at: "2026-01-01T00:01:00.005Z", timings: { ...timings, total_ms: 60_005 } });
  assert.match(jobTimeline(expired, 0), /^waited .* 60\.0 s\nexpired 5\.0 ms after its deadline$/);
});

function statistics(
  name: string,
  counts: { jobs: number; failed?: number; items?: number; runs?: number; queueNs?: number; inferNs?: number },
): ModelStatistics {
  const { jobs, failed = 0, items = jobs, runs = jobs, queueNs = 0, inferNs = 0 } = counts;
  return {
    ...{ name, version: "1", inference_count: items, execution_count: runs },
    inference_stats: {
      success: { count: jobs, ns: 0 },
      fail: { count: failed, ns: 0 },
      queue: { count: jobs, ns: queueNs },
      compute_infer: { count: jobs, ns: inferNs },
    },
  };
}

const sample = (atMs: number, models: ModelStatistics[], waiting?: Map<string, number>): ClusterSample => ({
  atMs,
  models,
  hosts: [],
  waiting,
});

test("rates are what changed by second, means by what was counted meanwhile, and the busiest model comes first", () => {
  const before = sample(1_000, [statistics("a", { jobs: 10 }), statistics("b", { jobs: 100 })]);
  const after = sample(
    3_000,
    [
      statistics("a", { jobs: 14, failed: 2, runs: 12, queueNs: 8e6, inferNs: 4e6 }),
      statistics("b", { jobs: 200 }),
      statistics("new", { jobs: 9 }),
    ],
    new Map([["a@1", 5]]),
  );
  const [first, second, third] = ratesBetween(before, after);
  assert.deepEqual([first?.name, first?.jobsPerSecond, first?.waiting], ["b@1", 50, 0]);
  assert.deepEqual(second, { name: "a@1", jobsPerSecond: 3, failedPerSecond: 1, waiting: 5, queueMs: 2, runMs: 1, batchItems: 2 });
  assert.deepEqual([third?.name, third?.jobsPerSecond, third?.queueMs], ["new@1", 0, undefined]);
  assert.equal(ratesBetween(after, before)[0]?.jobsPerSecond, 0, "a counter that began anew is no negative rate");
});

test("the screen leaves out the models that do least, and says so", () => {
  const before = sample(
    0,
    ["a", "b", "c"].map((name) => statistics(name, { jobs: 0 })),
  );
  const after = sample(1_000, [statistics("a", { jobs: 1 }), statistics("b", { jobs: 300 }), statistics("c", { jobs: 20 })]);
  const rates = ratesBetween(before, after);
  const figures = { url: "http://here", models: rates, hosts: [], trends: new Map([["b@1", [1, 2]]]), totals: [321] };
  const text = topText({ ...figures, mostModels: 2, mostHosts: 5 });
  assert.match(text, /^http:\/\/here {3}jobs\/s 321 .* hosts none$/m);
  assert.match(text, /^b@1 +300 +▅█ +0\.0 +- /m);
  assert.match(text, /^and 1 more that do less$/m);
  assert.doesNotMatch(text, /^a@1/m);
  assert.match(text, /no hosts/);
});

test("an inherited trace is passed on as it came, and nonsense is not", () => {
  const TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
  const { headers } = inheritedTrace({ TRACEPARENT, TRACESTATE: "a=1" })!.begin("infer", {});
  assert.deepEqual(headers, { traceparent: TRACEPARENT, tracestate: "a=1" });
  assert.equal(inheritedTrace({}), undefined);
  assert.equal(inheritedTrace({ TRACEPARENT: "00-1-2-3" }), undefined);
});
