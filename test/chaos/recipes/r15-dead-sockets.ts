/** R15: all open connections to Redis stand still and nobody is told; new ones work. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import type { Execution } from "../ledger.ts";
import { longestRefusalMs, type Recipe, toldToComeBack, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const hosts = 2;
const rounds = { smoke: 1, nightly: 2, soak: 30 } as const;
/** The longest that a host listens to a silent connection. */
const socketTimeoutMs = 15_000;

const hostsSince = (executions: readonly Execution[], sinceMs: number): number =>
  new Set(executions.flatMap(({ host, startedMs }) => (startedMs > sinceMs ? [host] : []))).size;

export const deadSockets: Recipe = {
  id: "R15",
  title: "open connections to Redis frozen, new ones accepted",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts, proxied: true });
    scene.supervise();
    const load = await scene.begin({ seed, rate: 40, timeoutMs: { least: 40_000, most: 50_000 } });
    const back: number[] = [];
    const brokenMs: number[] = [];
    for (let round = 0; round < rounds[tier]; round++) {
      const before = scene.executions().length;
      for (const proxy of scene.proxies.values()) proxy.freezeOpen();
      scene.watch.isPaused = true;
      const frozenMs = performance.now();
      brokenMs.push(Date.now());
      scene.fault("all connections frozen");
      await sleep(200);
      const settled = scene.executions().length;
      // each finds out by itself, and the queue is not to be left to the first
      const settledMs = Date.now();
      await until("both hosts to run again", async () => hostsSince(scene.executions(), settledMs) === hosts, { withinMs: 60_000 });
      back.push(performance.now() - frozenMs);
      scene.watch.isPaused = false;
      scene.fault(`hosts run again after ${back.at(-1)!.toFixed(0)} ms (${settled - before} runs were under way)`);
      await sleep(5_000);
    }
    const expected = { jobs: load.sent * 0.9, faults: 2 * rounds[tier], executions: load.sent / 20 };
    return await scene.course(expected, (verdict) => [
      { what: "hosts ran again after", value: Math.max(...back), limit: socketTimeoutMs + 5_000, better: "lower", unit: "ms" },
      { what: "slowest refusal", value: longestRefusalMs(scene.ledger, scene.pulse, brokenMs), limit: 2_500, better: "lower", unit: "ms" },
      unsuccessful(verdict),
      toldToComeBack(verdict),
    ]);
  },
};
