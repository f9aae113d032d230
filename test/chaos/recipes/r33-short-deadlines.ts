/** R33: far more jobs than can be served, with deadlines as short as a run: what is answered is in time, what cannot be is refused soon. */

import { setTimeout as sleep } from "node:timers/promises";
import { longestRefusalMs, type Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const seconds = { smoke: 10, nightly: 30, soak: 600 } as const;
const runMs = 40;
const [hosts, batch] = [2, 4];
const capacity = (hosts * batch * 1_000) / runMs;

export const shortDeadlines: Recipe = {
  id: "R33",
  title: "deadlines of 1 to 200 ms at twice the capacity",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts, batch, device: { minMs: runMs, maxMs: runMs } });
    const load = await scene.begin({ seed, rate: 2 * capacity, timeoutMs: { least: 1, most: 200 }, manners: ["infer"] });
    await sleep(seconds[tier] * 1_000);
    const took = load.sent / (2 * capacity);
    const expected = { jobs: load.sent / 8, faults: 0, executions: load.sent / 40 };
    return await scene.course(expected, ({ counts }) => {
      const late = scene.ledger.events.flatMap((event) =>
        event.kind === "outcome" && event.outcome.state === "expired" ? [event.outcome.finishedMs - event.outcome.deadlineMs] : [],
      );
      return [
        { what: "jobs refused", value: counts.refused, limit: load.sent / 4, better: "higher" },
        { what: "slowest refusal", value: longestRefusalMs(scene.ledger, scene.pulse), limit: 500, better: "lower", unit: "ms" },
        { what: "slowest expiry after its deadline", value: Math.max(0, ...late), limit: 250, better: "lower", unit: "ms" },
        {
          what: "answers in time, against the capacity",
          value: (100 * counts.succeeded) / (took * capacity),
          limit: 50,
          better: "higher",
          unit: "%",
        },
      ];
    });
  },
};
