/** What passes between the bench and its load process, and the figures of one cell. */

import type { JobClass } from "@switchyard/protocol";
import type { Wire } from "./connection.ts";
import type { SampleModel } from "./samples.ts";
import type { StreamFigures } from "./stream-tally.ts";

export interface LoadOrder {
  host: string;
  port: number;
  clients: number;
  /** Default: http. */
  wire?: Wire;
  /** One answer in so many is compared with the direct run; the others are checked for status and size. */
  verifyEvery: number;
}

export interface StreamOrder {
  name: string;
  model: SampleModel;
  /** Clients that each send when they were answered, or arrivals by chance. */
  pace: { clients: number } | { perSecond: number; seed: number };
  /** Travels as the protocol's `timeout` parameter; jobs that are answered later are late. */
  timeoutMs?: number;
  /** Travels as the protocol's `priority`. */
  class?: JobClass;
  apiKey?: string;
}

export interface StreamsOrder {
  host: string;
  port: number;
  streams: StreamOrder[];
  /** One good answer in so many is compared with the direct run. */
  verifyEvery: number;
}

export type ToLoad =
  | { kind: "prepare"; model: SampleModel; samples: number; apiKey?: string }
  | { kind: "start"; order: LoadOrder }
  | { kind: "stream"; order: StreamsOrder }
  | { kind: "mark" }
  | { kind: "finish" };

export type FromLoad =
  | { kind: "ready" }
  | { kind: "done" }
  | { kind: "figures"; figures: LoadFigures }
  | { kind: "streamed"; figures: Record<string, StreamFigures> }
  | { kind: "failed"; message: string };

export interface LoadFigures {
  jobs: number;
  /** From the last completion before the measurement to the last within it, so that batches at its edges do not count by halves. */
  seconds: number;
  jobsPerSecond: number;
  verified: number;
  latencyMs: { p50: number; p90: number; p99: number; p999: number; max: number };
}
