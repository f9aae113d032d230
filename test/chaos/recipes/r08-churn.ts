/** R8: a part of the hosts is replaced every minute, as clusters do. */

import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom, shuffle } from "../../../scripts/seeded-random.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const minutes = { smoke: 1, nightly: 10, soak: 30 } as const;
const everyMs = 60_000;

export const churn: Recipe = {
  id: "R8",
  title: "a quarter of the hosts replaced every minute",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: 4 });
    const load = await scene.begin({ seed, rate: 100, timeoutMs: { least: 2_000, most: 10_000 } });
    for (let minute = 0; minute < minutes[tier]; minute++) {
      const [worker] = shuffle([...scene.cluster.workers], random);
      const kills = minute % 2 === 0;
      if (kills) await worker!.kill();
      else await worker!.stop();
      scene.fault(`${worker!.name} ${kills ? "killed" : "stopped"}`);
      await worker!.respawn();
      await sleep(everyMs - 5_000);
    }
    const expected = { jobs: load.sent * 0.99, faults: minutes[tier], executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => [
      {
        what: "share of offered jobs in time",
        value: (100 * counts.succeeded) / counts.submitted,
        limit: 99.9,
        better: "higher",
        unit: "%",
      },
    ]);
  },
};
