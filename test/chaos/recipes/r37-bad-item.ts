/** R37: one item of a full batch makes the runtime fail: it fails alone, with its own error, and its neighbours are answered. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const waves = { smoke: 2, nightly: 20, soak: 200 } as const;
const rate = { smoke: 20, nightly: 40, soak: 40 } as const;
const batch = 32;

export const badItem: Recipe = {
  id: "R37",
  title: "one bad item in a batch of 32",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 1, batch, device: { failingEvery: batch }, inOneProcess: tier === "smoke" });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 20_000, most: 25_000 }, manners: ["queued", "held"] });
    for (let wave = 0; wave < waves[tier]; wave++) {
      for (let job = 0; job < batch; job++) load.one();
      await until("the wave to be claimed", async () => (await scene.waiting()) === 0, { withinMs: 20_000 });
      await sleep(300);
    }
    const expected = { jobs: load.sent, faults: 0, executions: 2 * waves[tier] };
    return await scene.course(expected, ({ counts }) => {
      const bad = Math.floor(load.sent / batch);
      const runs = new Map<number, number>();
      for (const { numbers } of scene.executions())
        for (const number of numbers) if (number % batch === 0) runs.set(number, (runs.get(number) ?? 0) + 1);
      const own = scene.ledger.events.flatMap((event) =>
        event.kind === "outcome" && event.outcome.state === "failed" ? [event.outcome] : [],
      );
      return [
        { what: "bad items, and no other, failed", value: Math.abs(counts.failed - bad), limit: 0, better: "lower" },
        { what: "most runs of a bad item", value: Math.max(...runs.values()), limit: Math.log2(batch) + 1, better: "lower" },
        { what: "bad items", value: bad, limit: 2, better: "higher" },
        { what: "jobs that were not answered", value: counts.acknowledged - counts.succeeded - bad, limit: 0, better: "lower" },
        {
          what: "failures without the run's own error",
          value: own.filter(({ code }) => code !== "run_failed").length,
          limit: 0,
          better: "lower",
        },
      ];
    });
  },
};
