/** For what must not be left half done because the store was away for a moment. */

import type { Clock } from "../clock.ts";

const firstWaitMs = 100;
const tries = 6;

/** Tries again for some seconds; answers whether it was done. */
export async function untilDone(clock: Clock, act: () => Promise<unknown>): Promise<boolean> {
  for (let tried = 0; tried < tries; tried++) {
    if (tried > 0) await clock.sleep(firstWaitMs * 2 ** (tried - 1));
    try {
      await act();
      return true;
    } catch {
      // what became of it, its caller says
    }
  }
  return false;
}
