/** Simulated time: what is to happen, in order; what falls on the same moment happens in the order in which it was planned. */

interface Planned {
  atMs: number;
  nth: number;
  act: () => void;
}

export class Timeline {
  nowMs = 0;
  readonly #heap: Planned[] = [];
  #planned = 0;

  at(atMs: number, act: () => void): void {
    this.#heap.push({ atMs: Math.max(atMs, this.nowMs), nth: this.#planned++, act });
    this.#rise(this.#heap.length - 1);
  }

  after(delayMs: number, act: () => void): void {
    this.at(this.nowMs + delayMs, act);
  }

  /** Lets time pass up to a moment. */
  runUntil(endMs: number): void {
    for (let next = this.#heap[0]; next && next.atMs <= endMs; next = this.#heap[0]) {
      this.#removeFirst();
      this.nowMs = next.atMs;
      next.act();
    }
    this.nowMs = endMs;
  }

  #isBefore(a: number, b: number): boolean {
    const [one, other] = [this.#heap[a] as Planned, this.#heap[b] as Planned];
    return one.atMs < other.atMs || (one.atMs === other.atMs && one.nth < other.nth);
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap;
    [heap[a], heap[b]] = [heap[b] as Planned, heap[a] as Planned];
  }

  #rise(from: number): void {
    for (let at = from; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #removeFirst(): void {
    const last = this.#heap.pop() as Planned;
    if (this.#heap.length === 0) return;
    this.#heap[0] = last;
    for (let at = 0; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < this.#heap.length && this.#isBefore(child, least)) least = child;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }
}
