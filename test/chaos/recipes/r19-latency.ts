/** R19: the way to Redis is long, and now and then longer: nobody is taken for dead, and what it costs is told. */

import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { quantile } from "../../bench/fairness.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const stepsMs = [0, 1, 5, 20, 100];
const eachMs = { smoke: 3_000, nightly: 8_000, soak: 120_000 } as const;
/** Less than hosts can do at the longest way, where each batch takes three turns of 200 ms: the way is measured here, not a queue. */
const rate = 8;
const stall = { share: 0.01, ms: 200 };

export const latency: Recipe = {
  id: "R19",
  title: "latency to Redis of 1 to 100 ms, with stalls",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: 2, proxied: true });
    scene.supervise();
    const load = await scene.begin({ seed, rate, timeoutMs: { least: 15_000, most: 20_000 } });
    const found: { ms: number; p50: number; p99: number }[] = [];
    for (const ms of stepsMs) {
      const jitterMs = Math.max(0.25, ms / 4);
      for (const proxy of scene.proxies.values()) {
        const chance = (): number => (random.next() < stall.share ? stall.ms / jitterMs : random.next());
        proxy.latency = ms === 0 ? undefined : { ms, jitterMs, random: chance };
      }
      if (ms > 0) scene.fault(`latency of ${ms} ms each way`);
      const fromMs = Date.now();
      await sleep(eachMs[tier]);
      const took = scene.ledger.events.flatMap((event) => (event.kind === "ack" && event.atMs > fromMs ? [event.tookMs] : []));
      found.push({ ms, p50: quantile(took, 0.5) ?? Number.NaN, p99: quantile(took, 0.99) ?? Number.NaN });
      scene.say(`  ${ms} ms: answers p50 ${found.at(-1)!.p50.toFixed(0)}, p99 ${found.at(-1)!.p99.toFixed(0)} ms`);
    }
    for (const proxy of scene.proxies.values()) proxy.latency = undefined;
    const expected = { jobs: load.sent / 2, faults: stepsMs.length - 1, executions: load.sent / 20 };
    return await scene.course(expected, ({ counts }) => [
      { what: "hosts taken for lost", value: scene.restarts, limit: 0, better: "lower" },
      unsuccessful({ counts }),
      ...found.map(({ ms, p99 }) => ({ what: `answers at ${ms} ms, p99`, value: p99, limit: 5_000, better: "lower" as const, unit: "ms" })),
    ]);
  },
};
