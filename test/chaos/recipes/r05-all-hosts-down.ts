/** R5: every host is gone for a while: what expires says so at its deadline and never runs, the rest is served when hosts return. */

import { setTimeout as sleep } from "node:timers/promises";
import { quantile } from "../../bench/fairness.ts";
import { until } from "../../support/until.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const awayMs = { smoke: 10_000, nightly: 60_000, soak: 60_000 } as const;

export const allHostsDown: Recipe = {
  id: "R5",
  title: "all hosts down",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 3 });
    const load = await scene.begin({
      seed,
      rate: 40,
      timeoutMs: { least: 2_000, most: awayMs[tier] + 20_000 },
      mayRefuse: ["no_capable_host"],
    });
    await Promise.all(scene.cluster.workers.map((worker) => worker.kill()));
    scene.fault("all hosts killed");
    // those that come now wait, until presence tells that nobody is there
    await sleep(awayMs[tier]);
    const before = scene.executions().length;
    const starts = scene.cluster.workers.map((worker) => worker.respawn());
    await Promise.any(starts);
    const backMs = performance.now();
    await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 20_000 });
    const againMs = performance.now() - backMs;
    await Promise.all(starts);
    scene.fault(`all hosts back; they run after ${againMs.toFixed(0)} ms`);
    await sleep(3_000);
    const expected = { jobs: 50, faults: 2, executions: load.sent / 50 };
    return await scene.course(expected, ({ counts }) => {
      const late = scene.ledger.events.flatMap((event) =>
        event.kind === "outcome" && event.outcome.state === "expired" ? [event.outcome.finishedMs - event.outcome.deadlineMs] : [],
      );
      return [
        { what: "jobs that neither succeeded nor expired", value: counts.failed + counts.cancelled, limit: 0, better: "lower" },
        { what: "jobs that were served", value: counts.succeeded, limit: 50, better: "higher" },
        { what: "jobs that expired", value: counts.expired, limit: 1, better: "higher" },
        { what: "expiries after their deadlines, p99", value: quantile(late, 0.99) ?? 0, limit: 250, better: "lower", unit: "ms" },
        { what: "hosts ran again after", value: againMs, limit: 2_000, better: "lower", unit: "ms" },
      ];
    });
  },
};
