/** R25: every coordinator repairs at once, and one of them comes back from a pause in which others have repaired: nothing is doubled. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const rounds = { smoke: 1, nightly: 6, soak: 80 } as const;
const pausedMs = 4_000;

export const manySweepers: Recipe = {
  id: "R25",
  title: "several sweepers at once, one of them paused while hosts die",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3, coordinators: 3 });
    scene.supervise(500);
    const load = await scene.begin({ seed, rate: 60, timeoutMs: { least: 10_000, most: 15_000 } });
    for (let round = 0; round < rounds[tier]; round++) {
      const paused = scene.cluster.coordinators[round % 3]!;
      const worker = scene.cluster.workers[round % 3]!;
      await until("jobs in hand", async () => (await scene.inHand(worker.incarnation)) > 0, { everyMs: 5 });
      paused.signal("SIGSTOP");
      await worker.kill();
      scene.fault(`${paused.name} paused, ${worker.name} killed`);
      await sleep(pausedMs);
      paused.signal("SIGCONT");
      scene.fault(`${paused.name} goes on`);
      await sleep(1_000);
    }
    const expected = { jobs: load.sent * 0.95, faults: 2 * rounds[tier], executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => [unsuccessful({ counts })]);
  },
};
