/** What a host writes into its registration and its heartbeats, and coordinators read. JSON in the host's hash, see redis/keys.ts. */

/** Fixed for one incarnation. */
export interface HostFacts {
  id: string;
  incarnation: string;
  /** Execution providers of ONNX Runtime that load a model on this host. */
  providers: string[];
  /** Provider, device and threads, such as `cpu/2`: hosts of one class take alike long for the same run. */
  device: string;
  cores: number;
  memoryMb: number;
  labels: Record<string, string>;
  /** host:port of its /metrics. */
  metrics: string;
  version: string;
}

/** Told with every heartbeat. Queues are named by their tags. */
export interface ChangingFacts {
  /** Queues that this host is subscribed to. */
  warm: string[];
  /** Queues whose model it holds loaded, with how it batches them. */
  loaded: Record<string, { maxItems: number; reason: string }>;
  /** Queues whose model it could not load, with the reason. */
  failures: Record<string, string>;
  draining: boolean;
  /** The store's clock minus the host's. */
  clockOffsetMs: number;
}
