/** What runs took, as hosts reported it; kept in the store, so that estimates outlive every process. */

import type { DeviceRuns } from "@switchyard/protocol";

export interface RunHistory {
  /** By queue tag, then by device class; queues of which nothing is known are absent. Throws `store_unavailable`. */
  read(tags: readonly string[]): Promise<Map<string, Map<string, DeviceRuns>>>;
}
