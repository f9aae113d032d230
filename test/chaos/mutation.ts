/**
 * Loaded into every process of a cluster (`--import`) to take one guarantee out of it: the suite has to turn red then, or it sees nothing.
 * CHAOS_MUTATION names which.
 */

import { isMainThread } from "node:worker_threads";
import { patchScripts } from "./faults/patched-scripts.ts";

export const mutations = ["fence", "sweeper", "idempotency", "minute"] as const;
export type Mutation = (typeof mutations)[number];

/** Rules of the scripts by file, and what stands in their place. */
const lua: Partial<Record<Mutation, Record<string, [rule: string, instead: string][]>>> = {
  fence: {
    "commit.lua": [
      ["if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end", ""],
      ["return ownFence == fence", "return text ~= false"],
      ["local successPattern = '^running ", "local successPattern = '^%a+ "],
    ],
  },
  sweeper: {
    "take-back.lua": [["if claim then", "if false then"]],
  },
  minute: {
    "lib-ended.lua": [["int(untilMs), table.concat", "int(untilMs - 60000), table.concat"]],
  },
};

function withoutRules(rules: Record<string, [rule: string, instead: string][]>): void {
  patchScripts((name, text) =>
    (rules[name] ?? []).reduce((patched, [rule, instead]) => {
      if (!patched.includes(rule)) throw new Error(`${name} has no ${rule}`);
      return patched.replace(rule, () => instead);
    }, text),
  );
}

async function forgetKeys(): Promise<void> {
  const { RedisJobStore } = await import("../../coordinator/src/adapters/redis-job-store.ts");
  RedisJobStore.prototype.boundKey = async () => undefined;
  RedisJobStore.prototype.bindKey = async (_key, entry) => entry;
}

const named = process.env.CHAOS_MUTATION as Mutation | undefined;
if (named !== undefined && lua[named]) withoutRules(lua[named]);
if (named === "idempotency" && isMainThread) await forgetKeys();
