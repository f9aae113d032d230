/**
 * Loaded into every process of a cluster (`--import`) to take one guarantee out of it: the suite has to turn red then, or it sees nothing.
 * CHAOS_MUTATION names which.
 */

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { isMainThread } from "node:worker_threads";

export const mutations = ["fence", "sweeper", "idempotency"] as const;
export type Mutation = (typeof mutations)[number];

/** Rules of the scripts by file, and what stands in their place. */
const lua: Partial<Record<Mutation, Record<string, [rule: string, instead: string][]>>> = {
  fence: {
    "commit.lua": [
      ["if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end", ""],
      ["if owned[id] ~= fence then", "if false then"],
      ["local successPattern = '^running ", "local successPattern = '^%a+ "],
    ],
  },
  sweeper: {
    "take-back.lua": [["if claim then", "if false then"]],
  },
};

function patchScripts(rules: Record<string, [string, string][]>): void {
  const read = fs.readFileSync;
  fs.readFileSync = ((file: string | URL, ...how: [BufferEncoding]) => {
    const text = read(file, ...how) as unknown;
    const name = String(file).split("/").at(-1)!;
    if (typeof text !== "string" || rules[name] === undefined) return text;
    return rules[name].reduce((patched, [rule, instead]) => {
      if (!patched.includes(rule)) throw new Error(`${name} has no ${rule}`);
      return patched.replace(rule, () => instead);
    }, text);
  }) as typeof fs.readFileSync;
  syncBuiltinESMExports();
}

async function forgetKeys(): Promise<void> {
  const { RedisJobStore } = await import("../../coordinator/src/adapters/redis-job-store.ts");
  RedisJobStore.prototype.boundKey = async () => undefined;
  RedisJobStore.prototype.bindKey = async (_key, entry) => entry;
}

const named = process.env.CHAOS_MUTATION as Mutation | undefined;
if (named !== undefined && lua[named]) patchScripts(lua[named]);
if (named === "idempotency" && isMainThread) await forgetKeys();
