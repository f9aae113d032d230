import assert from "node:assert/strict";
import { test } from "node:test";
import { PoissonArrivals, sendArrivals } from "../../client-sdk/src/cli/bench/arrivals.ts";
import { Latencies } from "../../client-sdk/src/cli/bench/latencies.ts";
import { measurePoint } from "../../client-sdk/src/cli/bench/point.ts";
import { verdictOf } from "../../client-sdk/src/cli/bench/verdict.ts";
import { ClientError, ConnectionError } from "../../client-sdk/src/client-errors.ts";
import type { Clock } from "../../client-sdk/src/clock.ts";
import { seededRandom } from "../../scripts/seeded-random.ts";
import { StreamTally } from "../bench/load/stream-tally.ts";

/** Time passes when somebody sleeps, in the order in which they would wake. */
function simulatedClock(seed = 1): Clock & { oversleepMs: number } {
  const random = seededRandom(seed);
  const sleepers: { atMs: number; wake: () => void }[] = [];
  let nowMs = 0;
  const wakeNext = (): void => {
    sleepers.sort((left, right) => left.atMs - right.atMs);
    const next = sleepers.shift();
    if (next === undefined) return;
    nowMs = Math.max(nowMs, next.atMs);
    next.wake();
  };
  return {
    oversleepMs: 0,
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep(ms) {
      return new Promise((resolve) => {
        sleepers.push({ atMs: nowMs + ms + this.oversleepMs, wake: resolve });
        setImmediate(wakeNext);
      });
    },
    after: () => () => {},
    jitter: () => random.next(),
  };
}

test("arrivals come at the rate that is asked for, with the spread that chance has, and the same for the same seed", () => {
  const draw = (seed: number): number[] => {
    const arrivals = new PoissonArrivals({ perSecond: 50, fromMs: 1000, random: seededRandom(seed).next });
    return Array.from({ length: 20_000 }, () => arrivals.take());
  };
  const moments = draw(3);
  const gaps = moments.map((moment, at) => moment - (at === 0 ? 1000 : moments[at - 1]!));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
  assert.ok(Math.abs(mean - 20) < 0.5, `mean gap ${mean} ms`);
  assert.ok(Math.abs(deviation / mean - 1) < 0.03, `a Poisson process spreads as much as its mean; this one ${deviation / mean} of it`);
  assert.ok(gaps.every((gap) => gap > 0));
  assert.deepEqual(draw(3), moments);
  assert.notDeepEqual(draw(4), moments);
});

test("jobs are sent however many are under way, and one sent too late still counts from its own moment", async () => {
  const clock = simulatedClock();
  clock.oversleepMs = 30; // the process was busy elsewhere
  const sent: { intendedMs: number; nowMs: number }[] = [];
  const arrivals = new PoissonArrivals({ perSecond: 100, fromMs: 0, random: () => clock.jitter() });
  const expected = new PoissonArrivals({ perSecond: 100, fromMs: 0, random: seededRandom(1).next });
  await sendArrivals({
    arrivals,
    untilMs: 2000,
    clock,
    signal: new AbortController().signal,
    send: (intendedMs) => sent.push({ intendedMs, nowMs: clock.monotonicMs() }),
  });
  for (const { intendedMs } of sent) assert.equal(intendedMs, expected.take());
  assert.ok(expected.nextMs >= 2000, "none was left out");
  assert.ok(sent.some(({ intendedMs, nowMs }) => nowMs - intendedMs > 20));
});

test("an answer is judged by its status, its code and the caller's own clock", () => {
  assert.equal(verdictOf({ status: 200, latencyMs: 99, deadlineMs: 100 }), "in time");
  assert.equal(verdictOf({ status: 200, latencyMs: 101, deadlineMs: 100 }), "late");
  assert.equal(verdictOf({ status: 200, latencyMs: 1e6 }), "in time");
  assert.equal(verdictOf({ status: 504, code: "expired", latencyMs: 101, deadlineMs: 100 }), "expired");
  assert.equal(verdictOf({ status: 503, code: "deadline_unattainable", latencyMs: 1, deadlineMs: 100 }), "refused");
  assert.equal(verdictOf({ status: 429, code: "rate_limited", latencyMs: 1 }), "refused");
  assert.equal(verdictOf({ status: 503, latencyMs: 1 }), "failed", "without a code nobody decided anything");
  assert.equal(verdictOf({ status: 500, code: "run_failed", latencyMs: 1 }), "failed");
  assert.equal(verdictOf({ status: undefined, latencyMs: 1 }), "failed");
});

test("percentiles of many durations are right to three figures", () => {
  const latencies = new Latencies();
  assert.equal(latencies.summary(), undefined);
  for (let ms = 1; ms <= 1000; ms++) latencies.record(ms);
  const { count, p50, p90, p99, max } = latencies.summary()!;
  assert.equal(count, 1000);
  for (const [seen, expected] of [
    [p50, 500],
    [p90, 900],
    [p99, 990],
    [max, 1000],
  ] as const)
    assert.ok(Math.abs(seen / expected - 1) < 0.002, `${seen} instead of ${expected}`);
});

test("a stream counts refusals by code, and the time of answers and of refusals apart", () => {
  const tally = new StreamTally();
  for (const lateMs of [0, 1, 2]) tally.sent(lateMs);
  tally.sent(undefined);
  tally.notSent();
  tally.heard({ status: 200, latencyMs: 40, deadlineMs: 100 });
  tally.heard({ status: 503, code: "queue_full", latencyMs: 2, deadlineMs: 100, told: "the queue is full" });
  tally.heard({ status: 503, code: "deadline_unattainable", latencyMs: 3, deadlineMs: 100 });
  tally.heard({ status: 500, latencyMs: 9, told: "status 500: broken" });
  const figures = tally.figures(2);
  assert.deepEqual(figures.counts, { "in time": 1, late: 0, expired: 0, refused: 2, failed: 1 });
  assert.deepEqual(figures.refusedBy, { queue_full: 1, deadline_unattainable: 1 });
  assert.deepEqual([figures.jobs, figures.notSent, figures.refusal, figures.failure], [5, 1, "the queue is full", "status 500: broken"]);
  assert.deepEqual([figures.latencyMs?.count, figures.refusalMs?.count, figures.sentLateMs?.count], [1, 2, 3]);
});

test("clients in a closed loop give the rate of a server that takes 10 ms a job", async () => {
  const clock = simulatedClock();
  const plan = { load: { clients: 4 }, deadlineMs: undefined, warmupMs: 100, measuredMs: 1000 };
  const point = await measurePoint({ ...plan, send: () => clock.sleep(10) }, clock, new AbortController().signal);
  assert.ok(Math.abs(point.answeredPerSecond - 400) <= 8, `${point.answeredPerSecond} jobs/s`);
  assert.ok(Math.abs(point.latencyMs!.p50 - 10) < 0.02);
});

test("an open load does not hide that a server stands still: what waits meanwhile is late", async () => {
  const clock = simulatedClock();
  const stallMs = 500;
  const send = async (): Promise<void> => {
    const nowMs = clock.monotonicMs();
    await clock.sleep(nowMs > 1000 && nowMs < 1000 + stallMs ? 1000 + stallMs - nowMs : 1);
  };
  const plan = { load: { perSecond: 200 }, deadlineMs: 50, warmupMs: 0, measuredMs: 2000 };
  const { counts, jobs } = await measurePoint({ ...plan, send }, clock, new AbortController().signal);
  assert.ok(jobs > 300);
  assert.ok(counts.late > 60, `${counts.late} late: about 90 arrive in the first 450 ms of the stall`);
});

test("when the load itself is late, its jobs took that much longer", async () => {
  const clock = simulatedClock();
  clock.oversleepMs = 30;
  const plan = { load: { perSecond: 100 }, deadlineMs: undefined, warmupMs: 0, measuredMs: 2000 };
  const { latencyMs } = await measurePoint({ ...plan, send: async () => {} }, clock, new AbortController().signal);
  assert.ok(latencyMs!.p90 > 20, `p90 ${latencyMs!.p90} ms`);
});

test("a sweep ends with the connection's error when nobody answers, and counts failures when some do", async () => {
  const clock = simulatedClock();
  const plan = { load: { clients: 2 }, deadlineMs: undefined, warmupMs: 0, measuredMs: 100 };
  const signal = new AbortController().signal;
  const away = async (): Promise<void> => {
    await clock.sleep(10);
    throw new ConnectionError("http://127.0.0.1:1", "ECONNREFUSED");
  };
  await assert.rejects(measurePoint({ ...plan, send: away }, clock, signal), ConnectionError);
  const half = async (number: number): Promise<void> => {
    await clock.sleep(10);
    if (number % 2 === 0) throw new ClientError("run_failed", "node Add failed", { status: 500 });
  };
  const point = await measurePoint({ ...plan, send: half }, clock, signal);
  assert.ok(point.counts.failed > 0 && point.counts["in time"] > 0);
  assert.equal(point.failure, "node Add failed");
});
