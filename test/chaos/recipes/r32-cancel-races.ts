/** R32: jobs are cancelled at every moment of their lives: each has one outcome, and the answer to the cancellation says which. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const rate = 100;
const seconds = { smoke: 5, nightly: 30, soak: 900 } as const;

export const cancelRaces: Recipe = {
  id: "R32",
  title: "cancellations at every moment of a job",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, inOneProcess: tier === "smoke" });
    const plan = { seed, rate, timeoutMs: { least: 12_000, most: 16_000 }, manners: ["queued"], cancelEvery: 2 } as const;
    const load = await scene.begin(plan);
    await sleep(seconds[tier] * 1_000);
    const expected = { jobs: load.sent, faults: 0, executions: load.sent / 16 };
    return await scene.course(expected, ({ counts }) => [
      { what: "jobs cancelled", value: counts.cancelled, limit: load.sent / 10, better: "higher" },
      { what: "jobs that neither succeeded nor were cancelled", value: counts.failed + counts.expired, limit: 0, better: "lower" },
      {
        what: "jobs that succeeded although somebody cancelled half of them",
        value: counts.succeeded,
        limit: load.sent / 2,
        better: "higher",
      },
    ]);
  },
};
