/** R3: a host's main loop stands still and its heartbeats with it; in the control case only a run is long, and the heart beats on. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const blockMs = 5_000;
const rounds = { smoke: 1, nightly: 4, soak: 40 } as const;

export const blockedLoop: Recipe = {
  id: "R3",
  title: "a host's main loop blocked for 5 s, and a run of 5 s as control",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3, device: { blockMs, slow: { every: 211, ms: blockMs } } });
    scene.supervise();
    const load = await scene.begin({ seed, rate: 40, timeoutMs: { least: 15_000, most: 20_000 } });
    for (let round = 0; round < rounds[tier]; round++) {
      const worker = scene.cluster.workers[round % 3]!;
      await until("jobs in hand", async () => (await scene.inHand(worker.incarnation)) > 0, { everyMs: 5 });
      const before = scene.restarts;
      worker.signal("SIGUSR2");
      scene.fault(`${worker.name} blocked for ${blockMs} ms`);
      await until("the blocked host to end itself and come back", async () => scene.restarts > before && worker.runs, { withinMs: 15_000 });
      await sleep(2_000);
    }
    const lost = scene.restarts;
    const slow = (): number => scene.executions().filter(({ numbers }) => numbers.some((number) => number % 211 === 0)).length;
    const slowBefore = slow();
    // the control: long runs alone end nobody
    await until("a long run to have begun", async () => slow() > slowBefore, { withinMs: 30_000 });
    await sleep(blockMs + 2_000);
    const expected = { jobs: load.sent * 0.9, faults: rounds[tier], executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => [
      {
        what: "blocked hosts that were lost and ended themselves, and no other",
        value: Math.abs(lost - rounds[tier]),
        limit: 0,
        better: "lower",
      },
      { what: "hosts lost by a long run", value: scene.restarts - lost, limit: 0, better: "lower" },
      unsuccessful({ counts }),
    ]);
  },
};
