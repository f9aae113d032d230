/** How evenly something is shared. Pure. */

/** Jain's index: 1 when all have the same, 1/n when one has everything. */
export function jain(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0);
  const squares = shares.reduce((total, share) => total + share ** 2, 0);
  return squares === 0 ? 1 : sum ** 2 / (shares.length * squares);
}

/** By how much, in per cent, the share that is furthest off misses what its weight gives it. */
export function worstMissPercent(of: readonly { got: number; weight: number }[]): number {
  const got = of.reduce((total, each) => total + each.got, 0);
  const weights = of.reduce((total, each) => total + each.weight, 0);
  return Math.max(...of.map((each) => 100 * Math.abs(each.got / got / (each.weight / weights) - 1)));
}

/** Nearest rank. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
