/** Times of the product on a machine that others use as well: what stands still makes one measurement longer, a fault makes every one longer. */

/** Measures until a time is within the limit, at most so often; the shortest. */
export async function shortest(limitMs: number, measure: () => Promise<number>, most = 5): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let turn = 1; turn <= most && least > limitMs; turn++) least = Math.min(least, await measure());
  return least;
}
