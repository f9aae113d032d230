/**
 * How many items of a tenant or a class came lately, and how many are expected: in the time to come about as many as in the same time before. A
 * longer look ahead takes a longer look back, so that a burst is not taken to last. Moving means, one for each doubling of that time. Pure;
 * lua/lib-arrivals does the same in the store, with the same constants.
 */

/** Looks ahead, in milliseconds; the nearest stands for those between. */
const spansMs = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000];
/** Mean age of what counts, in parts of the span: longer, and a change is seen late; shorter, and a burst is taken to last (decision 3). */
const ageShare = 0.7;
/** Counted are arrivals while flows wait beside each other, and so many milliseconds longer; that time is renewed so often at most. */
export const sharedForMs = 8_000;
export const sharedEveryMs = 1_000;
/** Items expected of all tenants of a class that have none waiting; fewer are no rival. */
export const leastPassing = 0.5;
/** What came last so long ago is forgotten. */
const rememberedMs = 64_000;

export class Arrivals {
  #atMs = 0;
  /** Items, each counted less the longer ago it came. */
  #counts = spansMs.map(() => 0);

  add(items: number, nowMs: number): void {
    this.#counts = this.#counts.map((count, at) => this.#left(count, at, nowMs) + items);
    this.#atMs = nowMs; // also where the clock went back: else nothing would fade until it has caught up
  }

  /** Items that will come within so many milliseconds; a fraction. */
  expected(withinMs: number, nowMs: number): number {
    const at = Math.max(0, Math.min(spansMs.length - 1, Math.round(Math.log2(withinMs / (spansMs[0] as number)))));
    return (this.#left(this.#counts[at] as number, at, nowMs) * withinMs) / (ageShare * (spansMs[at] as number));
  }

  get any(): boolean {
    return this.#atMs > 0;
  }

  isOver(nowMs: number): boolean {
    return Math.abs(nowMs - this.#atMs) > rememberedMs;
  }

  /** Of a count, by now. */
  #left(count: number, at: number, nowMs: number): number {
    return count * Math.exp(-Math.max(0, nowMs - this.#atMs) / (ageShare * (spansMs[at] as number)));
  }
}
