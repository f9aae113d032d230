/** When a server that was lost is tried again. Pure. */

/** A server that has run for so long has shown that it can. */
export const provenMs = 60_000;
/** Losses in a row, each before it was proven, after which it is left alone for minutes: it will not recover by being started. */
export const mostLosses = 6;

const shortestMs = 500;
const longestMs = 30_000;
const restMs = 300_000;

/** `inARow`: losses since it was last proven, this one included, so at least 1. `chance` from 0 to 1 spreads many. */
export function nextAttempt(inARow: number, chance: number): { delayMs: number; rests: boolean } {
  const rests = inARow >= mostLosses;
  const fullMs = rests ? restMs : Math.min(longestMs, shortestMs * 2 ** (inARow - 1));
  return { delayMs: Math.round(fullMs * (0.75 + chance / 2)), rests };
}
