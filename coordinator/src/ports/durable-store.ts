/**
 * What the store can promise beyond its usual writing, and the waiting for it. Writes go their usual way; whoever tells of them asks here
 * first. That covers all who write, hosts too: what is promised holds for everything that was written before the answer was read.
 */

import type { DurableTier } from "@switchyard/protocol";
import type { JobRecord, TombState } from "./job-store.ts";

export interface DurableStore {
  /** Throws `durability_unavailable` where the store cannot give this tier, with what it has and what to change; `store_unavailable` while it is away. */
  require(tier: DurableTier): Promise<void>;
  /**
   * The job as it stands, when that is as durable as the tier says. Throws `store_unavailable` with the job's id when it is not within the
   * time that callers are promised an answer in: nothing is undone by that, and asking again goes on waiting.
   */
  settled(id: string, tier: DurableTier): Promise<JobRecord | TombState | undefined>;
}
