/** How the servers of the store do, as they tell it themselves. Not for the hot path: a server takes a tenth of a millisecond to answer. */

export interface StoreServerFigures {
  /** host:port. */
  server: string;
  uptimeSeconds: number;
  clients: number;
  rejectedConnections: number;
  memoryBytes: number;
  /** 0: no bound. */
  memoryLimitBytes: number;
  evictedKeys: number;
  keys: number;
  commands: number;
  cpuSeconds: number;
  receivedBytes: number;
  sentBytes: number;
  /** Whether the last write of the append-only file succeeded; undefined where there is none. */
  appendOnlyWritten: boolean | undefined;
  replicas: number;
  /** By how much the replica that is farthest behind is behind; undefined without replicas. */
  replicaLagBytes: number | undefined;
}

export interface StoreFigures {
  /** One entry for each server that takes writes; those that do not answer are left out. Throws `store_unavailable`. */
  servers(): Promise<StoreServerFigures[]>;
}
