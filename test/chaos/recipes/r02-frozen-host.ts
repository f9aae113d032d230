/** R2: a host stands still in mid-run for longer than its presence lasts, and wakes up believing that nothing happened. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const rounds = { smoke: 1, nightly: 4, soak: 50 } as const;
/** More than the 3 s of presence. */
const frozenMs = { smoke: 8_000, nightly: 10_000, soak: 10_000 } as const;
const hosts = { smoke: 2, nightly: 3, soak: 3 } as const;
const rate = { smoke: 20, nightly: 60, soak: 60 } as const;
const exitLost = 75;

export const frozenHost: Recipe = {
  id: "R2",
  title: "a host frozen in mid-run, and woken",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: hosts[tier] });
    const load = await scene.begin({ seed, rate: rate[tier], timeoutMs: { least: 12_000, most: 16_000 } });
    let inHand = 0;
    let ended = 0;
    for (let round = 0; round < rounds[tier]; round++) {
      const { worker, held } = await until("a host to be frozen with jobs in hand", async () => {
        const busy = await scene.busyHost(round);
        scene.watch.freeze(busy);
        const frozen = await scene.inHand(busy.incarnation);
        if (frozen > 0) return { worker: busy, held: frozen };
        scene.watch.thaw(busy); // it had committed in between
        return false;
      });
      inHand += held;
      scene.fault(`${worker.name} frozen with ${held} jobs in hand`);
      await sleep(frozenMs[tier]);
      scene.watch.thaw(worker);
      scene.fault(`${worker.name} woken`);
      // it has to find out by itself, and whoever supervises it starts it again
      const end = await Promise.race([worker.exited, sleep(30_000, undefined, { ref: false })]);
      ended += Number(end?.code === exitLost);
      await worker.respawn();
    }
    const expected = { jobs: load.sent / 2, faults: 2 * rounds[tier], executions: load.sent / 8 };
    return await scene.course(expected, (verdict) => [
      unsuccessful(verdict),
      { what: "woken hosts that ended themselves", value: ended, limit: rounds[tier], better: "higher" },
      { what: "jobs in hand of frozen hosts", value: inHand, limit: 1, better: "higher" },
      { what: "further runs, against jobs in hand", value: verdict.counts.furtherRuns - inHand, limit: 0, better: "lower" },
    ]);
  },
};
