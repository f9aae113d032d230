/** Which of an alias's versions one request gets. */

import type { AliasTarget } from "@switchyard/protocol";

/**
 * The versions of a target with their shares, which add up to 1. Those that cannot be served get nothing while another can: a request that has
 * somewhere to go does not fail.
 */
export function sharesOf(target: AliasTarget, canServe: (version: number) => boolean): Map<number, number> {
  if (target.version !== undefined) return new Map([[target.version, 1]]);
  const weights = Object.entries(target.split ?? {}).map(([version, weight]) => [Number(version), weight] as const);
  const weighted = weights.filter(([, weight]) => weight > 0);
  const able = weighted.filter(([version]) => canServe(version));
  const used = able.length > 0 ? able : weighted;
  const sum = used.reduce((total, [, weight]) => total + weight, 0);
  return new Map(used.map(([version, weight]) => [version, weight / sum]));
}

/** The version with the largest share, of equal ones the highest. */
export function mainVersion(shares: ReadonlyMap<number, number>): number | undefined {
  const [main] = [...shares].sort(([version, share], [other, its]) => its - share || other - version);
  return main?.[0];
}

/** `chance`: a number in [0, 1). */
export function chooseVersion(shares: ReadonlyMap<number, number>, chance: number): number | undefined {
  let rest = chance;
  let last: number | undefined;
  for (const [version, share] of shares) {
    last = version;
    rest -= share;
    if (rest < 0) return version;
  }
  return last; // sums of fractions may miss 1 by a hair
}
