/** R23: hosts are replaced one after the other: nothing fails, and no job loses an attempt by it. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const cycles = { smoke: 1, nightly: 6, soak: 100 } as const;

export const rollingHosts: Recipe = {
  id: "R23",
  title: "rolling restart of hosts",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3 });
    const load = await scene.begin({ seed, rate: 60, timeoutMs: { least: 6_000, most: 10_000 } });
    let badCodes = 0;
    for (let cycle = 0; cycle < cycles[tier]; cycle++) {
      for (const worker of scene.cluster.workers) {
        badCodes += Number((await scene.stop(worker)) !== 0);
        scene.fault(`${worker.name} stopped`);
        await worker.respawn();
        await sleep(300);
      }
    }
    const expected = { jobs: load.sent, faults: 3 * cycles[tier], executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => {
      const attempts = scene.ledger.events.flatMap((event) => (event.kind === "outcome" ? [event.outcome.attempt] : []));
      return [
        { what: "failed requests", value: counts.unknown + counts.delayed + counts.refused, limit: 0, better: "lower" },
        unsuccessful({ counts }),
        { what: "most attempts of a job", value: Math.max(...attempts), limit: 1, better: "lower" },
        { what: "jobs that ran again", value: counts.ranAgain, limit: 0, better: "lower" },
        { what: "exit codes other than 0", value: badCodes, limit: 0, better: "lower" },
      ];
    });
  },
};
