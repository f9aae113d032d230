/** The simulation's own parts: time, loads, traces and the oracle. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrivalsOf, between, bursty, type Rate, steady } from "./loads.ts";
import { attainable } from "./oracle.ts";
import { jsonLine } from "./report.ts";
import { largeTrial, scenarios } from "./scenarios.ts";
import { Timeline } from "./timeline.ts";
import { parseTrace, traceText } from "./trace-file.ts";
import { judged, oracleOf, runTrial } from "./trials.ts";

const load = (seed: number, rate: Rate) =>
  arrivalsOf({
    ...{ seed, rate, untilMs: 200_000, models: ["a", "b"], zipf: 1 },
    senders: [{ share: 1, class: "standard", tenant: "t", timeoutMs: between(20, 5_000) }],
  });

test("what is planned happens in the order of time, and at one moment in the order of planning", () => {
  const time = new Timeline();
  const seen: string[] = [];
  for (const [at, name] of [5, 1, 3, 1, 5, 2].entries()) time.at(name, () => seen.push(`${time.nowMs}/${at}`));
  time.runUntil(4);
  assert.deepEqual(seen, ["1/1", "1/3", "2/5", "3/2"]);
  time.runUntil(9);
  assert.deepEqual(seen.slice(4), ["5/0", "5/4"]);
});

test("a load has the rate that was asked for, steady or in bursts, and repeats with its seed", () => {
  const steadily = load(3, steady(0.2));
  assert.ok(Math.abs(steadily.length / 40_000 - 1) < 0.02, `${steadily.length}`);
  assert.deepEqual(load(3, steady(0.2)).slice(0, 50), steadily.slice(0, 50));
  const mean = [1, 2, 3, 4, 5, 6, 7, 8].reduce((sum, seed) => sum + load(seed, bursty(0.2)).length, 0) / 8;
  assert.ok(Math.abs(mean / 40_000 - 1) < 0.2, `${mean}`);
});

test("a trace is read as it was written, and a line that is none is named", () => {
  const arrivals = load(1, steady(0.001));
  const read = parseTrace(traceText(arrivals));
  assert.deepEqual(
    read.map((one) => ({ ...one, atMs: 0 })),
    arrivals.map((one) => ({ ...one, atMs: 0 })),
  );
  const head = traceText([]).trim();
  assert.throws(() => parseTrace(`${head}\n1,m,nobody,t,1,100,1`), /line 2/);
  assert.throws(() => parseTrace(`${head}\n5,m,batch,t,1,100,1\n1,m,batch,t,1,100,1`), /line 3/);
  assert.throws(() => parseTrace("at,model"), /line 1/);
});

test("the oracle meets what one machine could, by the earliest deadline", () => {
  const job = (atMs: number, timeoutMs: number) => {
    return { atMs, timeoutMs, model: "m", class: "standard" as const, tenant: "t", tenantWeight: 1, items: 1 };
  };
  const jobs = [job(0, 10), job(0, 20), job(0, 21), job(5, 10), job(40, 9)];
  assert.deepEqual([...attainable(jobs, { perMs: 0.1, leastMs: 10 })], [1, 1, 0, 0, 0]);
});

test("the same seed gives the same bytes", () => {
  const line = (seed: number): string => {
    const trial = scenarios.bursty.build(seed, 1.2, 4_000);
    return jsonLine("bursty", seed, judged(trial, runTrial(trial, "fair"), oracleOf(trial), { policy: "fair", load: 1.2 }));
  };
  assert.equal(line(4), line(4));
  assert.notEqual(line(4), line(5));
});

test("a cluster of two hundred hosts and forty models serves them all", () => {
  const trial = largeTrial(1, 0.7, { hosts: 200, models: 40, forMs: 400 });
  const log = runTrial(trial, "fair");
  const served = new Set(trial.arrivals.flatMap(({ model }, at) => (log.outcomeOf(at) === "in_time" ? [model] : [])));
  assert.equal(served.size, 40);
});
