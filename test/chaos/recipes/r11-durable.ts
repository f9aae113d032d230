/** R11: jobs that ask for the disk. Where Redis syncs each write nothing that was told is lost; where it does not, they are refused. */

import { setTimeout as sleep } from "node:timers/promises";
import { call } from "../../support/calls.ts";
import { until } from "../../support/until.ts";
import { deviceModelName, rowOf } from "../device-model.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const kills = { smoke: 1, nightly: 5, soak: 50 } as const;

export const durable: Recipe = {
  id: "R11",
  title: "durability fsync, and Redis killed",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2 });
    const { redis, url } = scene.cluster;
    const inputs = [{ name: "x", datatype: "FP32", shape: [1, 4], data: rowOf(1) }];
    const refused = await call(`${url}/v1/jobs`, { body: { model: deviceModelName, inputs, durability: "fsync" } });
    await scene.redis.config("SET", "appendfsync", "always");
    await until("the tier to be offered", async () => {
      const answer = await call(`${url}/v1/jobs`, { body: { model: "no such model", inputs, durability: "fsync" } });
      await sleep(300);
      return answer.status !== 422;
    });
    const plan = {
      seed,
      rate: 30,
      timeoutMs: { least: 15_000, most: 20_000 },
      manners: ["held", "queued"] as const,
      durability: "fsync" as const,
      mayRefuse: ["durability_unavailable"],
    };
    const load = await scene.begin(plan);
    for (let kill = 0; kill < kills[tier]; kill++) {
      await sleep(2_000);
      await redis.kill();
      scene.fault("Redis killed");
      await sleep(2_000);
      await redis.restart();
      // a server that was told while it ran has forgotten it; this connection may take its time to find the new one
      const isTold = (): Promise<boolean> =>
        scene.redis.config("SET", "appendfsync", "always").then(
          () => true,
          () => false,
        );
      await until("Redis to be told to sync", isTold, { withinMs: 10_000 });
      const before = scene.executions().length;
      await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 20_000 });
    }
    await sleep(2_000);
    const expected = { jobs: load.sent / 3, faults: kills[tier], executions: load.sent / 20 };
    return await scene.course(expected, ({ counts }) => [
      { what: "status where the tier is not offered, off 422 by", value: Math.abs(refused.status - 422), limit: 0, better: "lower" },
      unsuccessful({ counts }),
    ]);
  },
};
