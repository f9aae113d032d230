/**
 * How long this process itself stood still: where many others want the machine, whatever it measures is late by that. Clients cannot tell it from a
 * slow answer, so what they waited for is told without it.
 */

const everyMs = 20;

export class Pulse implements Disposable {
  readonly #gaps: { fromMs: number; toMs: number }[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    let dueMs = Date.now() + everyMs;
    this.#timer = setInterval(() => {
      const nowMs = Date.now();
      if (nowMs > dueMs) this.#gaps.push({ fromMs: dueMs, toMs: nowMs });
      dueMs = nowMs + everyMs;
    }, everyMs);
  }

  /** Of the time between two moments (Date.now()). */
  stoodStillMs(fromMs: number, toMs: number): number {
    return this.#gaps.reduce((sum, gap) => sum + Math.max(0, Math.min(gap.toMs, toMs) - Math.max(gap.fromMs, fromMs)), 0);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
