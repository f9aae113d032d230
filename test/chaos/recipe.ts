/** What a recipe is: how long it is in each tier, what it breaks, and what must hold besides the terms of the checker. */

import type { Pulse } from "../support/pulse.ts";
import type { Expected, Verdict } from "./checker.ts";
import type { Ledger, LedgerEvent } from "./ledger.ts";
import type { Mutation } from "./mutation.ts";

export const tiers = ["smoke", "nightly", "soak"] as const;
export type Tier = (typeof tiers)[number];

export interface RecipeContext {
  tier: Tier;
  seed: number;
  /** A guarantee that is taken out, to see whether the suite sees it. */
  mutation?: Mutation;
  say(line: string): void;
}

/** A figure with the limit that it must keep. */
export interface Check {
  what: string;
  value: number;
  limit: number;
  /** Whether smaller or larger values are good. */
  better: "lower" | "higher";
  unit?: string;
}

export const isMet = ({ value, limit, better }: Check): boolean => (better === "lower" ? value <= limit : value >= limit);

export interface Course {
  verdict: Verdict;
  expected: Expected;
  checks: readonly Check[];
  ledger: Ledger;
}

export interface Recipe {
  /** As the recipes are numbered in the documents: R1, R2, … */
  id: string;
  title: string;
  /** The tiers that it belongs to. */
  tiers: readonly Tier[];
  /** Why it cannot run yet; said loudly, and counted. */
  skip?: string;
  run(context: RecipeContext): Promise<Course>;
}

export const isGood = ({ verdict, checks }: Course): boolean => verdict.isGood && checks.every(isMet);

/**
 * The longest that any try of a client waited for an answer that was a refusal, or told it to come back; of jobs that are only submitted, for
 * any answer or none; without what the clients' own process stood still meanwhile. `brokenMs`: moments (Date.now()) at which something broke; a
 * try that had waited for its run by then counts from there.
 */
export function longestRefusalMs({ events }: Ledger, pulse: Pulse, brokenMs: readonly number[] = []): number {
  const submitted = new Set(events.flatMap((event) => (event.kind === "submit" && event.manner === "queued" ? [event.key] : [])));
  const wait = (event: LedgerEvent): number => {
    if (event.kind === "refused") return event.tookMs;
    if (event.kind === "delayed") return Math.min(event.tookMs, event.atMs - Math.max(0, ...brokenMs.filter((ms) => ms < event.atMs)));
    return (event.kind === "ack" || event.kind === "unknown") && submitted.has(event.key) ? event.tookMs : 0;
  };
  const own = (event: LedgerEvent): number => wait(event) - pulse.lateMs(event.atMs - wait(event), event.atMs);
  return events.reduce((most, event) => Math.max(most, own(event)), 0);
}

/**
 * How soon a caller is told that the store is away: within 2.5 s. Beside other tests the coordinator has to wait for a core now and then; who is not told
 * waits for as long as the store is away, which is five seconds at least.
 */
export const mostRefusalMs: Readonly<Record<Tier, number>> = { smoke: 4_000, nightly: 2_500, soak: 2_500 };

/** That all went well in spite of everything, for callers without a key, too, as far as they heard. */
export const unsuccessful = ({ counts }: Pick<Verdict, "counts">): Check => ({
  what: "jobs that did not succeed",
  value: counts.acknowledged - counts.succeeded + counts.answeredBadly,
  limit: 0,
  better: "lower",
});

/** That the fault was felt: a store that never was away proves nothing. */
export const toldToComeBack = ({ counts }: Verdict): Check => ({
  what: "tries that were told to come back",
  value: counts.delayed,
  limit: 1,
  better: "higher",
});
