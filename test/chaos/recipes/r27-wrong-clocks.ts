/** R27: the clocks of hosts are wrong, by seconds and by minutes, from the start and by a step: Redis' clock decides. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Course, Recipe, RecipeContext } from "../recipe.ts";
import { Scene } from "../scene.ts";

const offsetsMs = { smoke: [-5_000], nightly: [5_000, -5_000, 300_000, -300_000], soak: [5_000, -5_000, 300_000, -300_000] } as const;
const eachMs = { smoke: 4_000, nightly: 5_000, soak: 300_000 } as const;

/** Half of the hosts are wrong from the start, the others step while they run: one offset each, and the worst of what was seen. */
async function withOffset(context: RecipeContext, offByMs: number, onSignal: boolean): Promise<Course> {
  await using scene = await Scene.open(context, { hosts: 2, device: { clock: { offByMs, onSignal } } });
  const load = await scene.begin({ seed: context.seed, rate: 60, timeoutMs: { least: 500, most: 4_000 } });
  if (onSignal) for (const worker of scene.cluster.workers) worker.signal("SIGUSR2");
  scene.fault(`clocks of hosts off by ${offByMs} ms${onSignal ? ", from now on" : " from the start"}`);
  await sleep(eachMs[context.tier]);
  const expected = { jobs: load.sent * 0.9, faults: 1, executions: load.sent / 10 };
  return await scene.course(expected, ({ counts }) => [
    {
      what: `off by ${offByMs} ms: jobs that did not succeed`,
      value: counts.acknowledged - counts.succeeded,
      limit: counts.acknowledged / 100,
      better: "lower",
    },
    {
      what: `off by ${offByMs} ms: hosts that ended`,
      value: scene.cluster.workers.filter(({ runs }) => !runs).length,
      limit: 0,
      better: "lower",
    },
  ]);
}

export const wrongClocks: Recipe = {
  id: "R27",
  title: "wrong clocks of hosts",
  tiers: ["nightly", "soak"],
  async run(context) {
    let last: Course | undefined;
    const checks: Course["checks"][number][] = [];
    for (const offByMs of offsetsMs[context.tier]) {
      for (const onSignal of [false, true]) {
        const course = await withOffset(context, offByMs, onSignal);
        checks.push(...course.checks);
        last = course;
        if (!course.verdict.isGood) return { ...course, checks };
      }
    }
    return { ...last!, checks };
  },
};
