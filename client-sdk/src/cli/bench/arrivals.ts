/**
 * An open load: jobs arrive when chance says so, not when the one before is answered, and each is sent however many are under way. What a
 * job takes is counted from the moment it was meant to arrive, so a load that falls behind does not flatter what it measures.
 */

import type { Clock } from "../../clock.ts";

/** Moments of a Poisson process, in milliseconds. Pure but for `random`, which draws from [0, 1). */
export class PoissonArrivals {
  readonly #perMs: number;
  readonly #random: () => number;
  #nextMs: number;

  constructor(of: { perSecond: number; fromMs: number; random: () => number }) {
    this.#perMs = of.perSecond / 1000;
    this.#random = of.random;
    this.#nextMs = of.fromMs + this.#gapMs();
  }

  get nextMs(): number {
    return this.#nextMs;
  }

  /** Answers the next moment and goes on to the one after it. */
  take(): number {
    const taken = this.#nextMs;
    this.#nextMs += this.#gapMs();
    return taken;
  }

  #gapMs(): number {
    return -Math.log(1 - this.#random()) / this.#perMs;
  }
}

/** Calls `send` for each arrival when its moment has come, until `untilMs` or the signal; never waits for what `send` began. */
export async function sendArrivals(of: {
  arrivals: PoissonArrivals;
  untilMs: number;
  clock: Clock;
  signal: AbortSignal;
  send: (intendedMs: number) => void;
}): Promise<void> {
  const { arrivals, untilMs, clock, signal, send } = of;
  while (!signal.aborted) {
    const nowMs = clock.monotonicMs();
    while (arrivals.nextMs <= nowMs && arrivals.nextMs < untilMs) send(arrivals.take());
    if (arrivals.nextMs >= untilMs && nowMs >= untilMs) return;
    await clock.sleep(Math.min(arrivals.nextMs, untilMs) - nowMs, signal);
  }
}
