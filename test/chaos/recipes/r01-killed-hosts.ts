/** R1: hosts are killed without warning, one after the other, while clients go on. */

import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const kills = { smoke: 8, nightly: 50, soak: 500 } as const;
/** A run that saw fewer proves nothing. */
const jobs = { smoke: 300, nightly: 10_000, soak: 100_000 } as const;
const hosts = { smoke: 3, nightly: 4, soak: 4 } as const;
const rate = { smoke: 40, nightly: 100, soak: 100 } as const;
/** Presence lasts for three seconds. Beside other tests whoever looks after it may have to wait for a core; a claim that nobody missed is not back at all. */
const mostBackS = { smoke: 8, nightly: 4, soak: 4 } as const;
const everyMs = { smoke: 1_000, nightly: 2_000, soak: 2_000 } as const;

export const killedHosts: Recipe = {
  id: "R1",
  title: "hosts killed one after the other",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: hosts[tier] });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 12_000, most: 16_000 } });
    const backs: Promise<{ jobs: number; backMs: number }>[] = [];
    for (let kill = 0; kill < kills[tier]; kill++) {
      const worker = await scene.busyHost(random.below(hosts[tier]));
      const [{ respawned, back }] = await Promise.all([scene.killHost(worker, everyMs[tier] / 2), sleep(everyMs[tier])]);
      backs.push(back);
      await respawned;
    }
    const losses = await Promise.all(backs);
    const expected = { jobs: jobs[tier], faults: kills[tier], executions: load.sent / 8 };
    return await scene.course(expected, (verdict) => {
      const inHand = losses.reduce((sum, { jobs }) => sum + jobs, 0);
      return [
        unsuccessful(verdict),
        {
          what: "the slowest claim was back",
          value: Math.max(...losses.map(({ backMs }) => backMs)) / 1000,
          limit: mostBackS[tier],
          better: "lower",
          unit: "s",
        },
        {
          what: "further runs, against jobs that killed hosts had in hand",
          value: verdict.counts.furtherRuns - inHand,
          limit: 0,
          better: "lower",
        },
        {
          what: "hosts that had ended by themselves",
          value: scene.cluster.workers.filter(({ runs }) => !runs).length,
          limit: hosts[tier] - 1, // beside other tests one may starve, and fence itself; without any, jobs fail
          better: "lower",
        },
        { what: "jobs in hand at kills", value: inHand, limit: 1, better: "higher" },
      ];
    });
  },
};
