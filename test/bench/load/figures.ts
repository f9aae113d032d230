/** What passes between the bench and its load process, and the figures of one cell. */

import type { SampleModel } from "./samples.ts";

export interface LoadOrder {
  host: string;
  port: number;
  clients: number;
  /** One answer in so many is compared with the direct run; the others are checked for status and size. */
  verifyEvery: number;
}

export type ToLoad =
  | { kind: "prepare"; model: SampleModel; samples: number }
  | { kind: "start"; order: LoadOrder }
  | { kind: "mark" }
  | { kind: "finish" };

export type FromLoad =
  | { kind: "ready" }
  | { kind: "done" }
  | { kind: "figures"; figures: LoadFigures }
  | { kind: "failed"; message: string };

export interface LoadFigures {
  jobs: number;
  /** From the last completion before the measurement to the last within it, so that batches at its edges do not count by halves. */
  seconds: number;
  jobsPerSecond: number;
  verified: number;
  latencyMs: { p50: number; p90: number; p99: number; p999: number; max: number };
}
