/** R18: Redis forgets all scripts, again and again; it does so too when it is started anew. No caller may notice. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const flushes = { smoke: 8, nightly: 60, soak: 600 } as const;
const rate = { smoke: 40, nightly: 60, soak: 60 } as const;
const everyMs = 300;

export const flushedScripts: Recipe = {
  id: "R18",
  title: "scripts flushed under load",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 1, inOneProcess: tier === "smoke" });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 12_000, most: 16_000 } });
    for (let flush = 0; flush < flushes[tier]; flush++) {
      await scene.redis.script("FLUSH");
      scene.fault("scripts flushed");
      await sleep(everyMs);
    }
    const expected = { jobs: load.sent, faults: flushes[tier], executions: load.sent / 8 };
    return await scene.course(expected, ({ counts }) => [
      { what: "requests that failed", value: counts.unknown + counts.delayed + counts.refused, limit: 0, better: "lower" },
      unsuccessful({ counts }),
    ]);
  },
};
