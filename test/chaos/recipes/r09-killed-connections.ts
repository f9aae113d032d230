/** R9: Redis ends connections, those of commands and those of notices, again and again. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Recipe, unsuccessful } from "../recipe.ts";
import { Scene } from "../scene.ts";

const kills = { smoke: 4, nightly: 15, soak: 400 } as const;
const everyMs = 3_000;

export const killedConnections: Recipe = {
  id: "R9",
  title: "connections to Redis killed every 3 s",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2 });
    const load = await scene.begin({ seed, rate: 80, timeoutMs: { least: 6_000, most: 10_000 } });
    for (let kill = 0; kill < kills[tier]; kill++) {
      const type = kill % 2 === 0 ? "NORMAL" : "PUBSUB";
      const ended = await scene.redis.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "YES");
      if (Number(ended) > 0) scene.fault(`${ended} connections of type ${type} killed`);
      await sleep(everyMs);
    }
    const expected = { jobs: load.sent * 0.9, faults: kills[tier], executions: load.sent / 10 };
    return await scene.course(expected, ({ counts }) => {
      const told = (100 * (counts.delayed + counts.refused)) / (counts.submitted + counts.called + counts.delayed);
      // a held answer is late by the poll of the record where its notice was lost
      const waits = scene.ledger.events.flatMap((event) => (event.kind === "ack" || event.kind === "answered" ? [event.tookMs] : []));
      return [
        { what: "answers that told to come back", value: told, limit: 0.5, better: "lower", unit: "%" },
        { what: "slowest answer", value: Math.max(...waits), limit: 2_500, better: "lower", unit: "ms" },
        unsuccessful({ counts }),
      ];
    });
  },
};
