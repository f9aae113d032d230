/** R36: interactive work alone could fill the device for good, and batch work still gets its share. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const seconds = { smoke: 20, nightly: 180, soak: 600 } as const;
/** Few jobs a second, so that what is measured is the order of their runs and not the way of their answers. */
const runMs = 40;
const batch = 4;
const capacity = (batch * 1_000) / runMs;
/** Of what interactive and batch work share, by weights of 70 and 5. */
const sharePercent = (100 * 5) / 75;
/** More than the share, so that there is always some, and not much more: each that waits has a client that asks. */
const batchRate = 0.1 * capacity;
const second = 1_000_000;

export const classes: Recipe = {
  id: "R36",
  title: "batch work under saturating interactive work",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 1, batch, device: { minMs: runMs, maxMs: runMs } });
    const lengthMs = seconds[tier] * 1_000;
    const manners = ["queued"] as const;
    const plan = { seed, rate: 1.2 * capacity, timeoutMs: { least: 2_000, most: 3_000 }, manners };
    await scene.begin({ ...plan, class: "interactive" });
    await scene.begin({
      ...plan,
      seed: seed + 1,
      class: "batch",
      firstNumber: second,
      rate: batchRate,
      timeoutMs: { least: lengthMs + 60_000, most: lengthMs + 90_000 },
    });
    await sleep(3_000);
    const fromMs = Date.now();
    await sleep(lengthMs);
    const ran = scene.executions().filter(({ startedMs }) => startedMs >= fromMs);
    const numbers = ran.flatMap((run) => run.numbers);
    const share = (100 * numbers.filter((number) => number > second).length) / numbers.length;
    const expected = { jobs: numbers.length / 2, faults: 0, executions: ran.length };
    return await scene.course(expected, () => [
      { what: "the share of batch work, at least", value: share, limit: sharePercent - 1, better: "higher", unit: "%" },
      { what: "the share of batch work, at most", value: share, limit: sharePercent + 1, better: "lower", unit: "%" },
    ]);
  },
};
