/** R10: Redis dies and comes back with its file. What was acknowledged is there, and nobody has to be started again. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { longestRefusalMs, mostRefusalMs, type Recipe, toldToComeBack, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const kills = { smoke: 1, nightly: 7, soak: 60 } as const;
const awayMs = 5_000;
/** In which hosts catch up with what gathered: else deadlines pass for want of time, not for the fault. */
const backMs = { smoke: 1_500, nightly: 4_000, soak: 4_000 } as const;
const hosts = { smoke: 1, nightly: 2, soak: 2 } as const;
const rate = { smoke: 20, nightly: 40, soak: 40 } as const;

export const killedRedis: Recipe = {
  id: "R10",
  title: "Redis killed, and back with its file after 5 s",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: hosts[tier] });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 18_000, most: 22_000 } });
    const pids = [...scene.cluster.coordinators, ...scene.cluster.workers].map(({ pid }) => pid);
    const resumed: number[] = [];
    for (let kill = 0; kill < kills[tier]; kill++) {
      await sleep(backMs[tier]);
      await scene.cluster.redis.kill();
      scene.fault("Redis killed");
      await sleep(awayMs);
      await scene.cluster.redis.restart();
      const againMs = performance.now();
      const before = scene.executions().length;
      await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 20_000 });
      resumed.push(performance.now() - againMs);
      scene.fault(`Redis back; hosts run after ${resumed.at(-1)!.toFixed(0)} ms`);
    }
    await sleep(1_000);
    const expected = { jobs: load.sent / 3, faults: 2 * kills[tier], executions: load.sent / 10 };
    return await scene.course(expected, (verdict) => {
      const restarted = [...scene.cluster.coordinators, ...scene.cluster.workers].filter(({ pid, runs }) => !runs || !pids.includes(pid));
      return [
        unsuccessful(verdict),
        toldToComeBack(verdict),
        {
          what: "slowest refusal",
          value: longestRefusalMs(scene.ledger, scene.pulse),
          limit: mostRefusalMs[tier],
          better: "lower",
          unit: "ms",
        },
        { what: "hosts ran again after", value: Math.max(...resumed), limit: 5_000, better: "lower", unit: "ms" },
        { what: "processes that ended", value: restarted.length, limit: 0, better: "lower" },
      ];
    });
  },
};
