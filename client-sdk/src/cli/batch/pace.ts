/** How fast something goes, by its last half minute. Pure. */

const windowMs = 30_000;

export class Pace {
  readonly #seen: { atMs: number; done: number }[] = [];

  saw(atMs: number, done: number): void {
    this.#seen.push({ atMs, done });
    while (this.#seen.length > 2 && atMs - this.#seen[1]!.atMs >= windowMs) this.#seen.shift();
  }

  /** 0 while nothing is known. */
  get perSecond(): number {
    const [first] = this.#seen;
    const last = this.#seen.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return 0;
    return ((last.done - first.done) / (last.atMs - first.atMs)) * 1_000;
  }

  /** Undefined while it stands still. */
  leftMs(total: number): number | undefined {
    const { perSecond } = this;
    const done = this.#seen.at(-1)?.done ?? 0;
    return perSecond > 0 ? ((total - done) / perSecond) * 1_000 : undefined;
  }
}
