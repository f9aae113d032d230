/** R26: coordinators and hosts are cut off from Redis, one way and both ways, for short and for long. */

import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const ways = [
  { there: true, back: false },
  { there: false, back: true },
  { there: true, back: true },
] as const;
const lengthsMs = { smoke: [5_000], nightly: [4_000, 7_000], soak: [5_000, 20_000, 60_000] } as const;

export const partitions: Recipe = {
  id: "R26",
  title: "partitions between Redis and coordinators or hosts",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    const random = seededRandom(seed);
    await using scene = await Scene.open(context, { hosts: 3, coordinators: 2, proxied: true });
    scene.supervise();
    const load = await scene.begin({ seed, rate: 40, timeoutMs: { least: 30_000, most: 40_000 } });
    let faults = 0;
    for (const lengthMs of lengthsMs[tier]) {
      for (const kind of ["coordinator", "worker"]) {
        for (const way of ways) {
          const names = [...scene.proxies.keys()].filter((name) => name.startsWith(kind));
          const name = names[random.below(names.length)]!;
          const proxy = scene.proxies.get(name)!;
          proxy.stopped = { ...way };
          scene.fault(
            `${name} cut off for ${lengthMs} ms: ${Object.entries(way)
              .flatMap(([side, isCut]) => (isCut ? [side] : []))
              .join(" and ")}`,
          );
          faults++;
          await sleep(lengthMs);
          proxy.stopped = { there: false, back: false };
          await sleep(2_000);
        }
      }
    }
    const expected = { jobs: load.sent / 2, faults, executions: load.sent / 20 };
    return await scene.course(expected, ({ counts }) => [unsuccessful({ counts })]);
  },
};
