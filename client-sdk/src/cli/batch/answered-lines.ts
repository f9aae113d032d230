/** Which lines of a file are answered: a bit each. Pure. */

/** From, and up to but without. */
export type Range = [from: number, to: number];

export class AnsweredLines {
  readonly #bits: Uint8Array;
  readonly #lines: number;

  constructor(lines: number, ranges: readonly Range[] = []) {
    this.#lines = lines;
    this.#bits = new Uint8Array(Math.ceil(lines / 8));
    for (const [from, to] of ranges) for (let index = from; index < Math.min(to, lines); index++) this.add(index);
  }

  has(index: number): boolean {
    return (this.#bits[index >> 3]! & (1 << (index & 7))) !== 0;
  }

  add(index: number): void {
    this.#bits[index >> 3]! |= 1 << (index & 7);
  }

  /** In rising order. */
  ranges(): Range[] {
    const ranges: Range[] = [];
    for (let index = 0; index < this.#lines; index++) {
      if (!this.has(index)) continue;
      const last = ranges.at(-1);
      if (last?.[1] === index) last[1]++;
      else ranges.push([index, index + 1]);
    }
    return ranges;
  }
}
