/** How much each tenant may take of what this coordinator has only so much of. Pure, but for the count. */

/**
 * Whether one more is granted: nobody may hold more than is still free. So one tenant alone gets half of all, two a third each, and whoever comes
 * next finds room.
 */
export function mayTake({ most, all, own }: { most: number; all: number; own: number }): boolean {
  return own < most - all;
}

/** What is held now, by tenant. */
export class TenantShares {
  readonly #most: number;
  readonly #held = new Map<string, number>();
  #all = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Answers how to give it back, which is done once; undefined where nothing is granted. */
  take(tenant: string): (() => void) | undefined {
    const own = this.#held.get(tenant) ?? 0;
    if (!mayTake({ most: this.#most, all: this.#all, own })) return undefined;
    this.#held.set(tenant, own + 1);
    this.#all += 1;
    return () => {
      const left = this.#held.get(tenant)! - 1;
      if (left === 0) this.#held.delete(tenant);
      else this.#held.set(tenant, left);
      this.#all -= 1;
    };
  }
}
