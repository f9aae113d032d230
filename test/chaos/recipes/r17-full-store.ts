/** R17: Redis has no memory left: new work is refused, what is under way ends, nothing spins, and all goes on when there is room again. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const rounds = { smoke: 1, nightly: 3, soak: 30 } as const;
const fullMs = 8_000;

export const fullStore: Recipe = {
  id: "R17",
  title: "Redis at its memory limit",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2 });
    const load = await scene.begin({ seed, rate: 60, timeoutMs: { least: 15_000, most: 20_000 }, mayRefuse: ["store_full"] });
    const commandsASecond = async (seconds: number): Promise<number> => {
      const total = async (): Promise<number> => Number(/total_commands_processed:(\d+)/.exec(await scene.redis.info("stats"))![1]);
      const before = await total();
      await sleep(seconds * 1_000);
      return ((await total()) - before) / seconds;
    };
    const usual = await commandsASecond(3);
    const [, limit] = (await scene.redis.config("GET", "maxmemory")) as [string, string];
    const [busy, back]: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds[tier]; round++) {
      await scene.redis.config("SET", "maxmemory", "1mb");
      scene.fault("memory full");
      busy.push(await commandsASecond(fullMs / 1_000));
      await scene.redis.config("SET", "maxmemory", limit);
      const freedMs = performance.now();
      const before = scene.executions().length;
      await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 20_000 });
      back.push(performance.now() - freedMs);
      scene.fault(`memory freed; hosts run after ${back.at(-1)!.toFixed(0)} ms`);
      await sleep(3_000);
    }
    const expected = { jobs: load.sent / 4, faults: 2 * rounds[tier], executions: load.sent / 20 };
    return await scene.course(expected, ({ counts }) => {
      const codes = scene.ledger.events.flatMap((event) => (event.kind === "refused" ? [event.code] : []));
      return [
        { what: "refusals for want of memory", value: codes.filter((code) => code === "store_full").length, limit: 1, better: "higher" },
        { what: "commands a second, against the usual", value: Math.max(...busy) / usual, limit: 3, better: "lower", unit: "×" },
        { what: "hosts ran again after", value: Math.max(...back), limit: 5_000, better: "lower", unit: "ms" },
        unsuccessful({ counts }),
      ];
    });
  },
};
