/**
 * How far a server's clock is ahead of ours, from its answers to TIME. Each tells it to half of the time that it took; of the last ones that
 * which took least counts, as in NTP's clock filter (RFC 5905, section 10): what waited for a busy event loop would put the server back by as long.
 * Pure.
 */

/** Of pings, four a second: drift within them is nothing beside the least time of a round trip. */
const mostSamples = 16;

export interface TimeAnswer {
  /** The server's, milliseconds since the epoch. */
  serverMs: number;
  /** Ours when the answer was read. */
  nowMs: number;
  tookMs: number;
}

export class ClockOffset {
  #samples: { offsetMs: number; offMs: number }[] = [];
  #ms = 0;

  /** Milliseconds to add to our time; 0 before the first answer. */
  get ms(): number {
    return this.#ms;
  }

  /** What was seen of the one before says nothing of it; its clock counts until this one has answered. */
  otherServer(): void {
    this.#samples = [];
  }

  add({ nowMs, serverMs, tookMs }: TimeAnswer): void {
    const sample = { offsetMs: serverMs - (nowMs - tookMs / 2), offMs: tookMs / 2 };
    // a clock was set: what was seen before says nothing of it
    const agrees = this.#samples.every(({ offMs, offsetMs }) => Math.abs(offsetMs - sample.offsetMs) <= offMs + sample.offMs + 1);
    if (!agrees) this.#samples = [];
    this.#samples.push(sample);
    if (this.#samples.length > mostSamples) this.#samples.shift();
    this.#ms = this.#samples.reduce((best, one) => (one.offMs <= best.offMs ? one : best)).offsetMs;
  }
}
