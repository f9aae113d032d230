/** R4: some inputs end the process that runs them. Each is given up after three hosts, and nobody else with it. */

import { setTimeout as sleep } from "node:timers/promises";
import { call } from "../../support/calls.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const poisons = { smoke: 1, nightly: 4, soak: 40 } as const;
const deadlyEvery = 200;
const deathsEach = 3;

export const poison: Recipe = {
  id: "R4",
  title: "inputs that kill the hosts which run them",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 4, device: { deadlyEvery } });
    scene.supervise();
    const load = await scene.begin({ seed, rate: 20, timeoutMs: { least: 60_000, most: 70_000 }, manners: ["queued"] });
    // each takes some ten seconds to take its three hosts down
    while (load.sent < deadlyEvery * poisons[tier] + 40) await sleep(100);
    const expected = { jobs: load.sent, faults: 0, executions: load.sent / 10 };
    await load.end();
    const { items } = (await call(`${scene.cluster.url}/v1/dead-letters?limit=100`)).json() as {
      items: { error: { code: string }; hosts_died: number; inputs_kept: boolean }[];
    };
    return await scene.course(expected, ({ counts }) => {
      const bad = Math.floor(load.sent / deadlyEvery);
      const kept = items.filter(
        ({ error, hosts_died, inputs_kept }) => error.code === "poison" && hosts_died === deathsEach && inputs_kept,
      );
      return [
        { what: "poisonous jobs that were given up, and no other", value: Math.abs(counts.failed - bad), limit: 0, better: "lower" },
        { what: "poisonous jobs", value: bad, limit: 1, better: "higher" },
        {
          what: "jobs that neither succeeded nor were poisonous",
          value: counts.acknowledged - counts.succeeded - bad,
          limit: 0,
          better: "lower",
        },
        { what: "dead letters with their inputs", value: kept.length, limit: bad, better: "higher" },
        { what: "hosts that died", value: scene.restarts, limit: bad * deathsEach, better: "lower" },
      ];
    });
  },
};
