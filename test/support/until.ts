/** Waiting for a condition instead of a duration, with an end that says what was waited for. */

import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  withinMs?: number;
  everyMs?: number;
  /** Added to the message when it takes too long. */
  show?: () => string;
}

/** Resolves with the first answer that is neither false nor undefined; rejects when that takes longer than `withinMs` (30 s). */
export async function until<T>(what: string, look: () => Promise<T | false | undefined>, options: UntilOptions = {}): Promise<T> {
  const { withinMs = 30_000, everyMs = 20, show } = options;
  const endMs = performance.now() + withinMs;
  for (;;) {
    const seen = await look();
    if (seen !== false && seen !== undefined) return seen;
    if (performance.now() > endMs) throw new Error(`waited ${withinMs} ms for ${what}${show ? `\n${show()}` : ""}`);
    await sleep(everyMs);
  }
}
