/** How tickets reach hosts. A ticket is a licence to look into a queue: one too many costs an empty look, a missing one the sweeper repairs. */

export interface TicketQueue {
  /** Offers a ticket to the hosts that hold the queue's model warm, or through the cold queue when none does. Never throws. */
  offer(tag: string, ticketId: string): void;
  /** Forces the cold queue, so that a host that does not hold the model yet may load it. */
  offerCold(tag: string, ticketId: string): void;
  close(): Promise<void>;
}
