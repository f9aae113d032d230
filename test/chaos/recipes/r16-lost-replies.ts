/** R16: scripts are carried out and their replies are lost with the connection, each script in turn. */

import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../support/until.ts";
import { scriptOf } from "../faults/script-names.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

/** What clients and hosts of this load call again and again. */
const scripts = ["admit", "claim", "commit", "heartbeat", "sweep", "take", "renew", "watch", "report", "cancel", "bullmq"];
const each = {
  smoke: { ms: 400, every: [10] },
  nightly: { ms: 3_000, every: [100, 20] },
  soak: { ms: 120_000, every: [100, 20] },
} as const;

export const lostReplies: Recipe = {
  id: "R16",
  title: "replies lost after the command was carried out, each script in turn",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 2, coordinators: 2, proxied: true });
    const load = await scene.begin({ seed, rate: 60, timeoutMs: { least: 10_000, most: 15_000 }, cancelEvery: 5 });
    const dropped = new Map<string, number>();
    for (const every of each[tier].every) {
      for (const script of scripts) {
        let seen = 0;
        // the first of each, then one of so many: some are called once a second
        const onCommand = (words: readonly string[]) => {
          if (scriptOf(words) !== script || seen++ % every > 0) return undefined;
          dropped.set(script, (dropped.get(script) ?? 0) + 1);
          scene.ledger.fault(`reply of ${script} dropped`);
          return { kind: "drop_reply" } as const;
        };
        for (const proxy of scene.proxies.values()) proxy.onCommand = onCommand;
        await sleep(each[tier].ms);
        // BullMQ is asked only where no host lingers
        await until(`${script} to lose a reply`, async () => seen > 0, { withinMs: 10_000 });
      }
    }
    for (const proxy of scene.proxies.values()) proxy.onCommand = undefined;
    scene.say(`  replies dropped: ${[...dropped].map(([script, times]) => `${script} ${times}`).join(", ")}`);
    const expected = { jobs: load.sent / 2, faults: scripts.length, executions: load.sent / 10 };
    return await scene.course(expected, (verdict) => [
      { what: "scripts that lost a reply", value: dropped.size, limit: scripts.length, better: "higher" },
      { what: "jobs that failed or expired", value: verdict.counts.failed + verdict.counts.expired, limit: 0, better: "lower" },
    ]);
  },
};
