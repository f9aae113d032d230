/** What became of every arrival, and where the devices' time went. Nothing is judged here; figures.ts reads it. */

import type { Arrival } from "./loads.ts";

export const outcomes = ["open", "in_time", "late", "expired", "failed", "refused"] as const;
export type Outcome = (typeof outcomes)[number];

export class RunLog {
  readonly arrivals: readonly Arrival[];
  readonly #outcomes: Uint8Array;
  /** When the first run began; NaN if none did. */
  readonly startedMs: Float64Array;
  readonly finishedMs: Float64Array;
  /** Device time spent on the job, its share of every batch it was in. */
  readonly deviceMs: Float64Array;
  /** Runs that began after a member's deadline. */
  lateStarts = 0;
  runs = 0;
  largestRunMs = 0;
  runItems = 0;

  constructor(arrivals: readonly Arrival[]) {
    this.arrivals = arrivals;
    this.#outcomes = new Uint8Array(arrivals.length);
    this.startedMs = new Float64Array(arrivals.length).fill(Number.NaN);
    this.finishedMs = new Float64Array(arrivals.length).fill(Number.NaN);
    this.deviceMs = new Float64Array(arrivals.length);
  }

  end(at: number, outcome: Outcome, nowMs: number): void {
    this.#outcomes[at] = outcomes.indexOf(outcome);
    this.finishedMs[at] = nowMs;
  }

  outcomeOf(at: number): Outcome {
    return outcomes[this.#outcomes[at] as number] as Outcome;
  }
}
