/** A promise and whether it was kept: the median over the rounds that were measured on a quiet machine, over all when there was none. */

import { type Spread, spreadOf } from "../statistics.ts";

export interface RoundValue {
  value: number;
  isQuiet: boolean;
}

export interface Budget {
  /** The promise, with its limit in words. */
  text: string;
  rounds: RoundValue[];
  /** Undefined when no round had anything to judge; then the promise is not kept. */
  value: Spread | undefined;
  quietRounds: number;
  limit: number;
  better: "higher" | "lower";
  digits: number;
  isMet: boolean;
}

/** Rounds without a value are left out. */
export function budget(of: {
  text: string;
  rounds: readonly { value: number | undefined; isQuiet: boolean }[];
  limit: number;
  better: "higher" | "lower";
  digits?: number;
}): Budget {
  const rounds = of.rounds.filter((round): round is RoundValue => round.value !== undefined);
  const quiet = rounds.filter(({ isQuiet }) => isQuiet);
  const counted = (quiet.length > 0 ? quiet : rounds).map((round) => round.value);
  const value = counted.length > 0 ? spreadOf(counted) : undefined;
  const isMet = value !== undefined && (of.better === "higher" ? value.median >= of.limit : value.median <= of.limit);
  return { ...of, rounds, value, quietRounds: quiet.length, digits: of.digits ?? 2, isMet };
}

/** Round by round. */
export function ratios(of: readonly RoundValue[], by: readonly RoundValue[]): RoundValue[] {
  return of.map(({ value, isQuiet }, round) => ({ value: value / by[round]!.value, isQuiet: isQuiet && by[round]!.isQuiet }));
}
