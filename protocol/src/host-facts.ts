/** What a host writes into its registration and its heartbeats, and coordinators read. JSON in the host's hash, see redis/keys.ts. */

import type { Capabilities } from "./capabilities.ts";

/** Fixed for one incarnation. */
export interface HostFacts extends Capabilities {
  id: string;
  incarnation: string;
  /** Provider, device and threads, such as `cpu/2`: hosts of one class take alike long for the same run. */
  device: string;
  /** Hosts that can do the same have the same; see redis/queue-tag.ts. */
  profile: string;
  cores: number;
  memoryMb: number;
  /** Memory that it lends to loaded models, and how many it holds at most. */
  modelMemoryMb: number;
  mostModels: number;
  /** host:port of its /metrics. */
  metrics: string;
  version: string;
}

/** Told with every heartbeat. Queues are named by their tags. */
export interface ChangingFacts {
  /** Queues that this host is subscribed to. */
  warm: string[];
  /** Queues whose model it holds loaded, with how it batches them, how long the load took, and with which settings. */
  loaded: Record<string, { maxItems: number; reason: string; loadMs: number; config?: string }>;
  /** Device milliseconds that the runs of held models took so far, by queue. */
  usedMs: Record<string, number>;
  /** Runs of held models so far and their items, by queue; hosts of an earlier version do not say it. */
  batches?: Record<string, [runs: number, items: number]>;
  /** Queues whose model it could not load, with the reason. */
  failures: Record<string, string>;
  draining: boolean;
  /** Tickets at hand; hosts of an earlier version do not say it. */
  tickets?: number;
  /** How it sees the folder of large values, see `sightOfFolder`; absent where it sees none on a disk of its own machine. */
  blobFolder?: string;
  /** The store's clock minus the host's. */
  clockOffsetMs: number;
}
