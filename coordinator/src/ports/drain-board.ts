/** Which hosts are to take no jobs because somebody asked, by their ids; it outlives their processes. Throws `store_unavailable`. */

export interface DrainBoard {
  /** Idempotent. */
  ask(hostId: string): Promise<void>;
  /** Answers whether it had been asked. */
  lift(hostId: string): Promise<boolean>;
}
