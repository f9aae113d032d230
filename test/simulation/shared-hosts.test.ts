/** Models of unlike runs on one host: what one is promised must neither forget the other nor starve beside it. The figures are those of one seed. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { arrivalsOf, fixed, steady } from "./loads.ts";
import type { HostSpec, ModelSpec } from "./machines.ts";
import type { Trial } from "./scenarios.ts";
import { runTrial } from "./trials.ts";

const untilMs = 30_000;
const fromMs = 5_000;
const common = { maxItems: 16, delayMs: 0, loadMs: 800, noise: 0.05 };
const light: ModelSpec = { name: "light", baseMs: 4, itemMs: 0.5, ...common };
/** Half a second for a full batch. */
const long: ModelSpec = { name: "long", baseMs: 100, itemMs: 25, ...common };
const host = (id: string, models: string[]): HostSpec => ({ id, kind: "gpu", slowness: 1, models });

interface Stream {
  model: string;
  perMs: number;
  timeoutMs: number;
}

/** What became of each model's jobs, in parts of all. */
function outcomesOf(hosts: HostSpec[], streams: Stream[]): Record<string, Record<string, number>> {
  const arrivals = streams
    .flatMap(({ model, perMs, timeoutMs }, at) => {
      const senders = [{ share: 1, class: "standard" as const, tenant: "t", timeoutMs: fixed(timeoutMs) }];
      return arrivalsOf({ seed: 1 + at, untilMs, rate: steady(perMs), models: [model], zipf: 0, senders });
    })
    .sort((a, b) => a.atMs - b.atMs);
  const trial: Trial = { seed: 1, models: [light, long], hosts, arrivals, untilMs: untilMs + 6_000, span: { fromMs, untilMs }, perMs: 1 };
  const log = runTrial(trial, "fair");
  const found: Record<string, Record<string, number>> = {};
  for (const { model } of streams) {
    const mine = [...arrivals.keys()].filter((at) => arrivals[at]!.model === model && arrivals[at]!.atMs >= fromMs);
    const part = (outcome: string): number => mine.filter((at) => log.outcomeOf(at) === outcome).length / mine.length;
    found[model] = Object.fromEntries(["in_time", "late", "expired", "refused"].map((outcome) => [outcome, part(outcome)]));
  }
  return found;
}

const both = ["light", "long"];
const busy = { model: "long", perMs: 0.06, timeoutMs: 3_000 };

test("a light model beside one of long runs that asks for all there is gets what it needs", () => {
  const found = outcomesOf([host("one", both)], [{ model: "light", perMs: 0.05, timeoutMs: 560 }, busy]);
  assert.ok(found.light!.in_time! > 0.99, JSON.stringify(found));
  assert.ok(found.long!.expired! < 0.05 && found.long!.refused! > 0.4, JSON.stringify(found));
});

test("when it asks for more than its half as well, both are told what they get", () => {
  const found = outcomesOf([host("one", both)], [{ model: "light", perMs: 1.5, timeoutMs: 2_000 }, busy]);
  assert.ok(found.light!.in_time! > 0.4 && found.light!.expired! < 0.05, JSON.stringify(found));
  assert.ok(found.long!.in_time! > 0.2 && found.long!.expired! < 0.1, JSON.stringify(found));
});

test("a job now and then beside long runs that come now and then is not refused for what was", () => {
  const found = outcomesOf(
    [host("one", both)],
    [
      { model: "light", perMs: 0.01, timeoutMs: 300 },
      { model: "long", perMs: 0.0005, timeoutMs: 5_000 },
    ],
  );
  assert.ok(found.light!.refused! < 0.02 && found.light!.in_time! > 0.9, JSON.stringify(found));
});
