/** R35: a tenant that sends a hundred times as much as another, on the same model: the light one waits hardly longer for it. */

import { setTimeout as sleep } from "node:timers/promises";
import { quantile } from "../../bench/fairness.ts";
import { newTenant } from "../../bench/systems/switchyard.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const seconds = { smoke: 10, nightly: 30, soak: 600 } as const;
const runMs = 20;
const batch = 4;
const capacity = (batch * 1_000) / runMs;
const loudness = 100;
const million = 1_000_000;

export const noisyNeighbour: Recipe = {
  id: "R35",
  title: "a tenant a hundred times as loud as another",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const [light, loud] = [newTenant("light", 1), newTenant("loud", 1)];
    await using scene = await Scene.open(context, { hosts: 1, batch, tenants: [light, loud], device: { minMs: runMs, maxMs: runMs } });
    const rate = (2 * capacity) / loudness;
    const manners = ["queued"] as const;
    const alone = await scene.begin({ seed, rate, timeoutMs: { least: 4_000, most: 5_000 }, manners, tenant: light });
    await sleep(seconds[tier] * 1_000);
    const togetherMs = Date.now();
    await scene.begin({
      ...{ seed: seed + 1, rate: rate * loudness, timeoutMs: { least: 2_000, most: 3_000 }, manners, tenant: loud },
      firstNumber: million,
    });
    await sleep(2_000 + seconds[tier] * 1_000);
    const expected = { jobs: alone.sent, faults: 0, executions: alone.sent / 4 };
    return await scene.course(expected, ({ counts }) => {
      const waits = (isTogether: boolean): number[] =>
        scene.ledger.events.flatMap((event) => {
          if (event.kind !== "outcome" || !event.key.startsWith(`chaos-${seed}-`) || event.outcome.startedMs === undefined) return [];
          const { createdMs, startedMs } = event.outcome;
          return createdMs > togetherMs === isTogether ? [startedMs - createdMs] : [];
        });
      const [solo, beside] = [quantile(waits(false), 0.99) ?? 0, quantile(waits(true), 0.99) ?? Number.NaN];
      const ends = scene.ledger.events.filter((event) => event.kind === "outcome" && event.key.startsWith(`chaos-${seed}-`));
      const bad = ends.filter((event) => event.kind === "outcome" && event.outcome.state !== "succeeded");
      const missing = alone.sent - new Set(ends.map((event) => (event.kind === "outcome" ? event.key : ""))).size;
      return [
        { what: "light jobs that did not succeed", value: bad.length + missing, limit: 0, better: "lower" },
        { what: "the light tenant's wait, p99", value: beside, limit: Math.max(2 * solo, 2 * runMs), better: "lower", unit: "ms" },
        { what: "jobs of the loud tenant that were refused", value: counts.refused, limit: 1, better: "higher" },
      ];
    });
  },
};
