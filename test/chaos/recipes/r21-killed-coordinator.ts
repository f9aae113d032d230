/** R21: a coordinator dies while clients hold the line at it: they repeat at another with the same key, and nothing runs twice for it. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const kills = { smoke: 2, nightly: 8, soak: 100 } as const;
const held = { smoke: 200, nightly: 500, soak: 500 } as const;
const rate = { smoke: 20, nightly: 40, soak: 40 } as const;

export const killedCoordinator: Recipe = {
  id: "R21",
  title: "a coordinator killed under held calls",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, batch: 8, device: { minMs: 60, maxMs: 140 } });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 60_000, most: 90_000 } });
    for (let kill = 0; kill < kills[tier]; kill++) {
      const coordinator = scene.cluster.coordinators[kill % 2]!;
      scene.holdRuns(); // on a busy machine the hosts serve them as fast as they can be sent
      for (let job = 0; job < held[tier]; job++) load.one();
      await until("jobs to wait", async () => (await scene.waiting()) > held[tier] / 4, { everyMs: 5 });
      const unanswered = scene.ledger.count("submit") - scene.ledger.count("outcome");
      await coordinator.kill();
      scene.letRunsGo();
      scene.fault(`${coordinator.name} killed with ${unanswered} jobs unanswered`);
      await sleep(500);
      await coordinator.respawn();
      await sleep(500);
    }
    const expected = { jobs: load.sent * 0.9, faults: kills[tier], executions: load.sent / 10 };
    return await scene.course(expected, (verdict) => [
      { what: "tries cut off", value: verdict.counts.unknown, limit: 1, better: "higher" },
      { what: "jobs that ran again", value: verdict.counts.ranAgain, limit: 0, better: "lower" },
      unsuccessful(verdict),
    ]);
  },
};
