/** R6: a host is cut off from Redis in mid-run, by silence and by dead sockets: it fences itself, and comes back when the link does. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const cutMs = { smoke: 8_000, nightly: 18_000, soak: 30_000 } as const;

export const cutHost: Recipe = {
  id: "R6",
  title: "a host cut off from Redis in mid-run",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3, proxied: true });
    scene.supervise();
    const load = await scene.begin({ seed, rate: 50, timeoutMs: { least: 10_000, most: 15_000 } });
    const back: number[] = [];
    for (const how of ["silence", "dead sockets"] as const) {
      const worker = scene.cluster.workers[how === "silence" ? 0 : 1]!;
      const proxy = scene.proxies.get(worker.name)!;
      await until("jobs in hand", async () => (await scene.inHand(worker.incarnation)) > 0, { everyMs: 5 });
      const before = worker.incarnation;
      proxy.acceptsInSilence = true;
      if (how === "silence") proxy.stopped = { there: true, back: true };
      else proxy.freezeOpen();
      scene.fault(`${worker.name} cut off by ${how}`);
      await until("what it had in hand to be back", async () => (await scene.inHand(before)) === 0, { withinMs: 10_000 });
      await sleep(cutMs[tier]);
      proxy.acceptsInSilence = false;
      proxy.stopped = { there: false, back: false };
      const healedMs = performance.now();
      await until(
        `${worker.name} to run jobs again`,
        async () => worker.incarnation !== before && (await scene.inHand(worker.incarnation)) > 0,
        {
          withinMs: 40_000,
          everyMs: 5,
        },
      );
      back.push(performance.now() - healedMs);
      scene.fault(`${worker.name} at work ${back.at(-1)!.toFixed(0)} ms after the link`);
    }
    const expected = { jobs: load.sent * 0.9, faults: 4, executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => [
      { what: "hosts at work again after", value: Math.max(...back), limit: 5_000, better: "lower", unit: "ms" },
      unsuccessful({ counts }),
    ]);
  },
};
