/**
 * How late this process itself saw something: where many others want the machine it stands still now and then, and whatever it sees then it sees
 * late. Only a stop over the very moment of asking or of seeing counts, not one in between, which makes nothing late; and half a second at most, so
 * that no fault hides behind it.
 */

const everyMs = 20;
/** Shorter ones are the timer's own. */
const leastMs = 50;
const mostMs = 500;

export class Pulse implements Disposable {
  readonly #stops: { fromMs: number; toMs: number }[] = [];
  #dueMs = Date.now() + everyMs;
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#timer = setInterval(() => {
      const nowMs = Date.now();
      if (nowMs - this.#dueMs >= leastMs) this.#stops.push({ fromMs: this.#dueMs, toMs: nowMs });
      this.#dueMs = nowMs + everyMs;
    }, everyMs);
  }

  /** Of what was asked at the one moment and seen at the other (Date.now()). */
  lateMs(fromMs: number, toMs: number): number {
    const stops = [...this.#stops, { fromMs: this.#dueMs, toMs: Date.now() }]; // the last may be going on
    const ofOneMoment = (ms: number): number => {
      const stop = stops.find((one) => one.toMs - one.fromMs >= leastMs && ms > one.fromMs && ms <= one.toMs + leastMs);
      return stop ? Math.max(0, Math.min(stop.toMs, toMs) - Math.max(stop.fromMs, fromMs)) : 0;
    };
    return Math.min(mostMs, ofOneMoment(toMs) + ofOneMoment(fromMs), toMs - fromMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
