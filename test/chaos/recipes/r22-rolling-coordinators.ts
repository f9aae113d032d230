/** R22: three coordinators behind a balancer are replaced one after the other, round and round: no request fails. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const cycles = { smoke: 1, nightly: 8, soak: 100 } as const;
/** Longer than the longest wait that a client asks for. */
const graceMs = 30_000;

export const rollingCoordinators: Recipe = {
  id: "R22",
  title: "rolling restart of three coordinators behind a balancer",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3, coordinators: 3, balanced: true, device: { minMs: 50, maxMs: 400 } });
    const load = await scene.begin({ seed, rate: 20, timeoutMs: { least: 20_000, most: 30_000 } });
    const drains: number[] = [];
    let badCodes = 0;
    for (let cycle = 0; cycle < cycles[tier]; cycle++) {
      for (const coordinator of scene.cluster.coordinators) {
        const startedMs = performance.now();
        badCodes += Number((await scene.stop(coordinator)) !== 0);
        drains.push(performance.now() - startedMs);
        scene.fault(`${coordinator.name} stopped within ${drains.at(-1)!.toFixed(0)} ms`);
        await coordinator.respawn();
        await sleep(300);
      }
    }
    const expected = { jobs: load.sent * 0.99, faults: 3 * cycles[tier], executions: load.sent / 20 };
    return await scene.course(expected, ({ counts }) => [
      { what: "failed requests", value: counts.unknown + counts.delayed + counts.refused, limit: 0, better: "lower" },
      unsuccessful({ counts }),
      { what: "exit codes other than 0", value: badCodes, limit: 0, better: "lower" },
      { what: "slowest drain", value: Math.max(...drains), limit: graceMs, better: "lower", unit: "ms" },
    ]);
  },
};
