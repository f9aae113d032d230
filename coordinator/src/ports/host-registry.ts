/** The hosts that are registered, as their heartbeats in the store say. */

import type { HostView } from "@switchyard/protocol";

export interface HostRegistry {
  /** All known hosts: ready, draining and lately lost ones. A snapshot at most a second old. */
  list(): HostView[];
  /** Hosts that may run this queue's jobs now. */
  matching(tag: string): number;
}
