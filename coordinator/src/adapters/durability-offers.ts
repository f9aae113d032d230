/** Which tiers a Redis offers, and why not the others, from what it says of itself. Pure. */

import type { DurableTier } from "@switchyard/protocol";
import { fieldsOf } from "./redis-fields.ts";

/** What was asked of the store; a refusal (by its access list, or by a service that hides its settings) is an Error in its place. */
export interface StoreFacts {
  info: string | Error;
  settings: ReadonlyMap<string, string> | Error;
  /** Answers of WAIT and WAITAOF for none, which are there at once. */
  wait: unknown;
  waitAof: unknown;
}

/** How a tier is made sure of. `always`: the write's own reply is the promise, as long as the settings are what they are. */
export type Means = "wait" | "waitaof" | "always";

export type Offer = { by: Means } | { why: string; fix: string };

export type Offers = Record<DurableTier, Offer>;

/** Settings on which the promise `always` rests; looked at with every promise. */
export const alwaysSettings: Readonly<Record<string, string>> = {
  appendonly: "yes",
  appendfsync: "always",
  "no-appendfsync-on-rewrite": "no", // with yes nothing is synced while the file is rewritten
};

/** The reply of CONFIG GET as a map. */
export function settingsOf(reply: unknown): Map<string, string> {
  return fieldsOf(Array.isArray(reply) ? reply.map(String) : []);
}

/** The first setting that is not as `always` needs it. */
export function alwaysFault(settings: ReadonlyMap<string, string>): string | undefined {
  const wrong = Object.entries(alwaysSettings).find(([name, wanted]) => settings.get(name) !== wanted);
  return wrong && `${wrong[0]} is ${settings.get(wrong[0]) ?? "not told"}`;
}

export function offersOf(facts: StoreFacts): Offers {
  return { fsync: fsyncOf(facts), replicated: replicatedOf(facts) };
}

const factIn = (info: string, name: string): string => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(info)?.[1] ?? "";
const refused = (command: string): Offer => ({
  why: `the store refuses ${command} to this user`,
  fix: `allow ${command} in its access list`,
});

/**
 * Under appendfsync everysec WAITAOF may answer before the sync in Redis before 8.0 (mended by redis/redis#13793) and in Valkey up to this
 * day: seen in 8.0.1 by its system calls. Whoever cannot be believed must sync with every write.
 */
const oldestBelieved = 8;

function fsyncOf({ info, settings, waitAof }: StoreFacts): Offer {
  if (info instanceof Error) return refused("INFO");
  const valkey = factIn(info, "valkey_version");
  const store = valkey === "" ? `the store, Redis ${factIn(info, "redis_version")},` : `the store, Valkey ${valkey},`;
  const isBelieved = valkey === "" && Number.parseInt(factIn(info, "redis_version"), 10) >= oldestBelieved;
  const known = settings instanceof Error ? undefined : settings;
  if (factIn(info, "aof_enabled") !== "1")
    return { why: `${store} keeps no append-only file (appendonly no)`, fix: "CONFIG SET appendonly yes" };
  if (isBelieved && !(waitAof instanceof Error)) {
    return known?.get("appendfsync") === "no"
      ? { why: `${store} leaves it to its system when to sync (appendfsync no)`, fix: "CONFIG SET appendfsync everysec, or always" }
      : { by: "waitaof" };
  }
  const has = isBelieved ? `${store} refuses WAITAOF` : `${store} has no WAITAOF that waits for the sync (Redis 8.0 or newer has)`;
  if (!known) return { why: `${has} and does not tell its settings`, fix: "allow CONFIG GET to this user, or use another store" };
  const fault = alwaysFault(known);
  if (fault === undefined) return { by: "always" };
  const commands = Object.entries(alwaysSettings).filter(([name, wanted]) => known.get(name) !== wanted);
  return { why: `${has}, and ${fault}`, fix: `CONFIG SET ${commands.map((words) => words.join(" ")).join(" ")}` };
}

function replicatedOf({ info, wait }: StoreFacts): Offer {
  if (info instanceof Error) return refused("INFO");
  if (wait instanceof Error) return refused("WAIT");
  // one that is still being copied to cannot acknowledge anything yet
  if (/^slave\d+:.*\bstate=online\b/m.test(info)) return { by: "wait" };
  const [connected, why] = [Number(factIn(info, "connected_slaves")), "no replica is connected to the store"];
  return connected > 0
    ? { why: `${connected} replicas are connected to the store, none of them in step yet`, fix: "wait until one has caught up" }
    : { why, fix: "start one with replicaof" };
}
