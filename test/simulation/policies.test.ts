/** What the scheduler must do under load, in simulated clusters. The figures are those of one seed, and the same on every machine. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Figures } from "./figures.ts";
import type { PolicyName } from "./policies.ts";
import { type Scenario, type ScenarioName, scenarios, type Trial } from "./scenarios.ts";
import { classShares, judge, oracleOf, runTrial, tenantShares, tenantWaits } from "./trials.ts";

const seed = 1;

const kept = new Map<string, unknown>();

/** Several tests ask for the same figures: they are computed once. */
function once<T>(name: string, make: () => T): T {
  if (!kept.has(name)) kept.set(name, make());
  return kept.get(name) as T;
}

function trialOf(name: ScenarioName, load: number, forMs: number): Trial {
  const scenario: Scenario = scenarios[name];
  return once(`${name} ${load} ${forMs}`, () => scenario.build(seed, load, forMs));
}

function figures(name: ScenarioName, load: number, policy: PolicyName, forMs = 8_000): Figures {
  const trial = trialOf(name, load, forMs);
  const oracle = once(`${name} ${load} ${forMs} oracle`, () => oracleOf(trial));
  return once(`${name} ${load} ${forMs} ${policy}`, () => judge(trial, runTrial(trial, policy), oracle));
}

test("above capacity, running the earliest deadline without dropping is worse than taking turns and dropping", () => {
  const edf = figures("steady", 1.5, "edf");
  const fifo = figures("steady", 1.5, "fifo-drop");
  assert.ok(edf.goodput < 0.1 && fifo.goodput > 0.9, `${edf.goodput} and ${fifo.goodput}`);
});

test("at twice the capacity the hosts' time goes to jobs that end in time, in full batches", () => {
  for (const name of ["steady", "mixed"] as const) {
    const { goodput, wasted, batchItems, lateStarts } = figures(name, 2, "fair");
    assert.ok(goodput >= 0.95, `${name}: ${goodput} of the capacity`);
    assert.ok(wasted < 0.05 && batchItems > 15, `${name}: ${wasted} wasted, batches of ${batchItems}`);
    assert.equal(lateStarts, 0);
  }
});

test("at twice the capacity most of what cannot be done is refused at once, and little is admitted in vain", () => {
  const { refused, missed } = figures("mixed", 2, "fair");
  assert.ok(refused > 0.4 && missed < 0.05, `${refused} refused, ${missed} missed`);
});

test("at four fifths of the capacity hardly a job is refused that could have been done", () => {
  for (const name of ["steady", "mixed", "lone"] as const) {
    const { falseRefusals, inTime, lateStarts } = figures(name, 0.8, "fair");
    assert.ok(falseRefusals <= 0.02 && inTime > 0.97, `${name}: ${falseRefusals} refused, ${inTime} in time`);
    assert.equal(lateStarts, 0);
  }
});

test("models that share hosts are each promised what they get of them", () => {
  const { goodput, missed, lateStarts } = figures("shared", 2, "fair");
  assert.ok(goodput >= 0.95 && missed < 0.05, `${goodput} of the capacity, ${missed} missed`);
  assert.equal(lateStarts, 0);
  const below = figures("shared", 0.8, "fair");
  assert.ok(below.falseRefusals <= 0.02 && below.inTime > 0.97, `${below.falseRefusals} refused, ${below.inTime} in time`);
});

test("estimates that are ten times too long heal while jobs come", () => {
  const { inTime } = figures("wrong", 0.8, "fair", 36_000);
  assert.ok(inTime > 0.95, `${inTime}`);
});

test("a host that dies costs nobody a job that has time", () => {
  const { inTime, lateStarts } = figures("deaths", 0.5, "fair", 12_000);
  assert.ok(inTime > 0.999, `${inTime}`);
  assert.equal(lateStarts, 0);
});

test("a tenant that sends little waits for a batch, however much another sends", () => {
  const trial = trialOf("tenants", 1.2, 8_000);
  const log = runTrial(trial, "fair");
  const { p99Ms, aloneMs } = tenantWaits(trial, log, "light", "fair");
  assert.ok(p99Ms <= Math.max(2 * aloneMs, 2 * log.largestRunMs), `${p99Ms} ms; alone ${aloneMs} ms, a run ${log.largestRunMs} ms`);
  assert.ok(
    tenantWaits(trial, runTrial(trial, "admission"), "light", "admission").p99Ms > 1_000,
    "and without shares it would wait for all",
  );
});

test("tenants of weights 1, 2 and 4 get device time by their weights", () => {
  const trial = trialOf("weights", 3, 8_000);
  const { perWeight, jain } = tenantShares(trial, runTrial(trial, "fair"));
  const mean = [...perWeight.values()].reduce((sum, ms) => sum + ms, 0) / 3;
  for (const [tenant, ms] of perWeight) assert.ok(Math.abs(ms / mean - 1) <= 0.05, `${tenant}: ${ms} of ${mean}`);
  assert.ok(jain >= 0.95);
});

test("the class batch gets its twentieth of a cluster that is asked for twice what it has", () => {
  const trial = trialOf("classes", 2, 8_000);
  const shares = classShares(trial, runTrial(trial, "fair"));
  assert.ok((shares.get("batch") ?? 0) >= 0.0475, JSON.stringify([...shares]));
});

test("a class whose jobs are as large as a batch gets its share and no more, and what others leave", () => {
  const trial = trialOf("sizes", 2, 8_000);
  const share = classShares(trial, runTrial(trial, "fair")).get("batch") ?? 0;
  assert.ok(share >= 0.0475 && share <= 0.06, `${share} of a cluster that is asked for twice what it has`);
  const { goodput, missed } = figures("sizes", 2, "fair", 20_000);
  assert.ok(goodput > 0.95 && missed < 0.04, `${goodput} of the capacity, ${missed} missed`);
  const below = figures("sizes", 0.8, "fair", 20_000);
  assert.ok(below.inTime > 0.999, `${below.inTime} in time`);
});

test("classes that get little are told so: their jobs are refused, not admitted to expire", () => {
  for (const name of ["classes", "backfill"] as const) {
    const { goodput, missed, refused } = figures(name, 2, "fair", 20_000);
    assert.ok(missed < 0.04 && refused > 0.4, `${name}: ${missed} missed, ${refused} refused`);
    assert.ok(goodput > 0.95, `${name}: ${goodput} of the capacity`);
    const below = figures(name, 0.8, "fair", 20_000);
    assert.ok(below.refused < 0.001 && below.inTime > 0.999, `${name}: ${below.refused} refused, ${below.inTime} in time`);
  }
});
