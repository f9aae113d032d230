/** A factor on predictions of one host class that have lately been missed. It rises fast and falls slowly; 1 while all is well. */

const missShare = 1.2;
const mostFactor = 2;

/** The factor after a run that was promised to take `predictedMs` (with the factor applied) and took `actualMs`. */
export function factorAfter(factor: number, predictedMs: number, actualMs: number): number {
  if (predictedMs > 0 && actualMs >= missShare * predictedMs) return Math.min(mostFactor, factor * 1.1);
  return Math.max(1, factor * 0.99);
}
