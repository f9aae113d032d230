/**
 * What was counted of each queue, by all processes together; kept in the store, so that every coordinator answers alike and numbers survive
 * every process. Throws `store_unavailable`.
 */

import type { NumberedTally, QueueTally } from "@switchyard/protocol";

export interface ModelStatistics {
  /** By queue tag; queues of which nothing was counted are absent. */
  read(tags: readonly string[]): Promise<Map<string, QueueTally>>;
  /** Adds what this process has counted. Each number is added once, however often it is told. */
  add(tag: string, counted: NumberedTally): Promise<void>;
}
