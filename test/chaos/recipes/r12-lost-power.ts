/** R12: the power fails: Redis comes back without its last second, the file cut in the middle of a record. The rest repairs itself. */

import { globSync, statSync, truncateSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { forbidden, type Verdict } from "../checker.ts";
import type { Ledger } from "../ledger.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const rounds = { smoke: 1, nightly: 4, soak: 40 } as const;
const windowMs = 1_000;
/** What is written is told a moment later. */
const toldMs = 100;
/** Of a record: the file then ends in the middle of one. */
const tornBytes = 7;

/** What was told within a window that the store forgot may be gone, or come true once more; anything else may not. */
function excuse(
  verdict: Verdict,
  ledger: Ledger,
  windows: readonly { fromMs: number; toMs: number }[],
): { verdict: Verdict; rolledBack: number } {
  const forgotten = new Set<string>();
  for (const event of ledger.events) {
    if (event.kind !== "ack" && event.kind !== "outcome") continue;
    const toldMs = event.kind === "ack" ? event.atMs : event.outcome.finishedMs;
    if (windows.some(({ fromMs, toMs }) => toldMs >= fromMs && toldMs <= toMs)) forgotten.add(event.id);
  }
  const isExcused = (text: string): boolean => forgotten.has(/\bjob ([\w-]+)/.exec(text)?.[1] ?? "");
  const before = verdict.violations.lost.length + verdict.violations.duplicated.length + verdict.violations.broken.length;
  const violations = {
    ...verdict.violations,
    lost: verdict.violations.lost.filter((text) => !isExcused(text)),
    duplicated: verdict.violations.duplicated.filter((text) => !isExcused(text)),
    broken: verdict.violations.broken.filter((text) => !isExcused(text)),
  };
  const rolledBack = before - violations.lost.length - violations.duplicated.length - violations.broken.length;
  return { verdict: { ...verdict, violations, isGood: forbidden.every((term) => violations[term].length === 0) }, rolledBack };
}

export const lostPower: Recipe = {
  id: "R12",
  title: "Redis without its last second, its file torn",
  tiers: ["nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2 });
    const load = await scene.begin({
      seed,
      rate: 60,
      timeoutMs: { least: 12_000, most: 15_000 },
      manners: ["held", "queued"],
      mayRefuse: ["job_not_found"],
    });
    const startedMs = Date.now();
    const { redis } = scene.cluster;
    const windows: { fromMs: number; toMs: number }[] = [];
    const back: number[] = [];
    for (let round = 0; round < rounds[tier]; round++) {
      await sleep(2_000);
      const [file] = globSync(path.join(redis.dataFolder, "**/*.incr.aof")).sort().reverse() as [string];
      const sizeBytes = statSync(file).size;
      const fromMs = Date.now() - toldMs;
      await sleep(windowMs);
      await redis.kill();
      windows.push({ fromMs, toMs: Date.now() + toldMs });
      const lostBytes = statSync(file).size - sizeBytes;
      truncateSync(file, sizeBytes + Math.min(tornBytes, lostBytes));
      if (lostBytes > tornBytes) scene.fault(`power lost with the last ${windowMs} ms (${lostBytes} bytes)`);
      await redis.restart();
      const before = scene.executions().length;
      const backMs = performance.now();
      await until("hosts to run again", async () => scene.executions().length > before, { withinMs: 20_000 });
      back.push(performance.now() - backMs);
      await sleep(2_000);
    }
    const lostShare = windows.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0) / (Date.now() - startedMs);
    const expected = { jobs: load.sent / 3, faults: rounds[tier], executions: load.sent / 20 };
    const course = await scene.course(expected, () => []);
    const { verdict, rolledBack } = excuse(course.verdict, scene.ledger, windows);
    return {
      ...course,
      verdict,
      checks: [
        {
          what: "jobs that were forgotten or came true again, of the lost seconds",
          value: rolledBack,
          limit: 1.5 * lostShare * load.sent, // one whose answer and whose end were lost counts twice
          better: "lower",
        },
        { what: "hosts ran again after", value: Math.max(...back), limit: 3_000, better: "lower", unit: "ms" },
      ],
    };
  },
};
