/** How tickets reach hosts. A ticket is a licence to look into a queue: one too many costs an empty look, a missing one the sweeper repairs. */

import type { TicketReach } from "./host-registry.ts";

export interface TicketQueue {
  /**
   * Offers a ticket: by default to the hosts that hold the queue's model warm, or through a cold queue when none does. Not offered at all
   * while no host may take it. Never throws.
   */
  offer(tag: string, ticketId: string, reach?: TicketReach): void;
  close(): Promise<void>;
}
