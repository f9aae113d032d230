/** R13: Redis stands still. Callers are told soon, and a silence of the store is no proof of anybody's death. */

import { setTimeout as sleep } from "node:timers/promises";
import { call } from "../../support/calls.ts";
import { until } from "../../support/until.ts";
import { longestRefusalMs, mostRefusalMs, type Recipe, toldToComeBack, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const freezeMs = { smoke: 8_000, nightly: 45_000, soak: 45_000 } as const;
const rounds = { smoke: 1, nightly: 1, soak: 20 } as const;
const rate = { smoke: 20, nightly: 40, soak: 40 } as const;
/** Longer than the presence window and the grace of the sweeper: whoever were to be taken for lost after a freeze now would be. */
const graceMs = 4_500;

export const frozenRedis: Recipe = {
  id: "R13",
  title: "Redis frozen",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2 });
    const { url, redis, workers } = scene.cluster;
    const load = await scene.begin({
      seed,
      rate: rate[tier],
      timeoutMs: { least: freezeMs[tier] + 10_000, most: freezeMs[tier] + 15_000 },
    });
    const before = workers.map(({ incarnation }) => incarnation);
    const [readyRed, served]: [number[], number[]] = [[], []];
    let deaths = 0;
    for (let round = 0; round < rounds[tier]; round++) {
      await sleep(1_000);
      redis.pause();
      const frozenAtMs = performance.now();
      scene.fault("Redis frozen");
      await until("readiness to go red", async () => (await call(`${url}/readyz`)).status === 503, { withinMs: 15_000 });
      readyRed.push(performance.now() - frozenAtMs);
      deaths += Number((await call(`${url}/livez`)).status !== 200);
      await sleep(Math.max(0, freezeMs[tier] - (performance.now() - frozenAtMs)));
      redis.resume();
      const resumedAtMs = performance.now();
      const ran = scene.executions().length;
      await until("hosts to run again", async () => scene.executions().length > ran, { withinMs: 20_000 });
      served.push(performance.now() - resumedAtMs);
      scene.fault(`Redis woken; hosts run after ${served.at(-1)!.toFixed(0)} ms`);
      await sleep(graceMs);
    }
    const expected = { jobs: load.sent / 4, faults: 2 * rounds[tier], executions: load.sent / 12 };
    return await scene.course(expected, (verdict) => {
      const lost = workers.filter(({ incarnation, runs }, at) => !runs || incarnation !== before[at]).length;
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
        { what: "tries without an answer", value: verdict.counts.unknown, limit: 0, better: "lower" },
        { what: "readiness red after", value: Math.max(...readyRed), limit: 5_000, better: "lower", unit: "ms" },
        { what: "liveness red", value: deaths, limit: 0, better: "lower" },
        { what: "hosts ran again after", value: Math.max(...served), limit: 5_000, better: "lower", unit: "ms" },
        { what: "hosts taken for lost", value: lost, limit: 0, better: "lower" },
        { what: "jobs that ran again", value: verdict.counts.ranAgain, limit: 0, better: "lower" },
      ];
    });
  },
};
