/** Where one coordinator at a time leaves the plan for hosts to follow. Nothing that must be quick depends on it. */

export interface HostOrders {
  /** Queue tags of models to load, one after another. */
  load: readonly string[];
  /** Of models to let go, once nothing runs there. */
  drop: readonly string[];
  /** Of models that a load on demand must not push out. */
  keep: readonly string[];
}

export interface PlacementBoard {
  /** Whether this coordinator plans now: it holds the lease, or has just taken one that had run out. */
  lead(): Promise<boolean>;
  /** Asks whoever plans to have the model of a queue on a host for the next `forMs`. */
  want(tag: string, forMs: number): Promise<void>;
  /** Tags of what was asked for and still is. */
  wanted(): Promise<ReadonlySet<string>>;
  /** By incarnation. Replaces what stood there. */
  publish(orders: ReadonlyMap<string, HostOrders>): Promise<void>;
}
