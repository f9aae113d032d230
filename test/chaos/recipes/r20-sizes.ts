/** R20: a great many results that are kept, and a great many jobs that wait: no script holds Redis up for longer than 50 ms. */

import { Redis } from "ioredis";
import { succeeded } from "../../support/job-rig.ts";
import { startTestRedis } from "../../support/redis.ts";
import { RedisRigs } from "../../support/redis-rig.ts";
import { judge } from "../checker.ts";
import { scriptOf } from "../faults/script-names.ts";
import { Ledger } from "../ledger.ts";
import type { Recipe } from "../recipe.ts";

const kept = { smoke: 20_000, nightly: 1_000_000, soak: 1_000_000 } as const;
const waiting = { smoke: 10_000, nightly: 100_000, soak: 1_000_000 } as const;
const together = 125;
const inputBytes = 1_024;
const hourMs = 3_600_000;
const allowedMs = 50;

export const sizes: Recipe = {
  id: "R20",
  title: "a great many kept results and waiting jobs",
  tiers: ["nightly", "soak"],
  async run({ tier, say }) {
    const server = await startTestRedis({ maxMemoryBytes: 8 * 1024 ** 3 });
    const redis = new Redis(server.url);
    const rigs = await RedisRigs.open(server.url);
    try {
      await redis.config("SET", "slowlog-log-slower-than", "10000", "slowlog-max-len", "100000");
      const rig = rigs.rig();
      const inputs = [new Uint8Array(inputBytes)];
      const wish = { timeoutMs: hourMs, latestStartMs: hourMs - 1_000, ttlMs: hourMs, inputs };
      const admit = () => Promise.all(Array.from({ length: together }, () => rig.admit(wish, 1, together)));
      await admit();
      const { host, ticket } = await rig.hostWithTicket();
      for (let done = 0; done < kept[tier]; done += together) {
        if (done > 0) await admit();
        const jobs = await host.batch(ticket, { maxItems: together, busyMs: 60_000 });
        await host.commit(
          ticket,
          jobs.map((job) => succeeded(job)),
        );
        if (done % 100_000 === 0) say(`  ${done} results`);
      }
      for (let jobs = 0; jobs < waiting[tier]; jobs += together) await admit();
      const started = performance.now();
      const { figures } = await rig.store.sweep(rig.tag, 1, together);
      say(`  a sweep of ${figures.waiting} waiting jobs took ${(performance.now() - started).toFixed(1)} ms`);
      const slow = (await redis.call("SLOWLOG", "GET", "100000")) as [number, number, number, string[]][];
      const slowest = slow.reduce((most, [, , us]) => Math.max(most, us / 1_000), 0);
      for (const [, , us, words] of slow.toSorted((a, b) => b[2] - a[2]).slice(0, 5))
        say(`  ${scriptOf(words) ?? words[0]} took ${(us / 1_000).toFixed(1)} ms`);
      const results = await redis.dbsize();
      const history = { events: [], executions: [], store: { listed: [], atMs: 0, faults: [] }, stalls: [], answerTo: () => [] };
      const expected = { jobs: 0, faults: 0, executions: 0 };
      return {
        verdict: judge(history, expected),
        expected,
        ledger: new Ledger(),
        checks: [
          { what: "slowest command", value: slowest, limit: allowedMs, better: "lower", unit: "ms" },
          { what: "keys", value: results, limit: kept[tier] + waiting[tier], better: "higher" },
          { what: "waiting jobs", value: figures.waiting, limit: waiting[tier], better: "higher" },
        ],
      };
    } finally {
      redis.disconnect();
      await rigs.close();
      await server.stop();
    }
  },
};
