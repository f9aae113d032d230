/**
 * The tickets that a runner holds, and whose turn it is. A ticket is *active* (its queue may have work), *lingering* (its queue was empty;
 * it waits a moment for a wake-up) or *closing* (its linger is over: one last look retires it). Tickets with work take turns.
 */

import type { ModelVersion } from "@switchyard/protocol";

export interface HeldTicket {
  ticketId: string;
  version: ModelVersion;
  mode: "active" | "lingering" | "closing";
  /** Local monotonic ms; only while lingering. */
  lingerUntilMs: number;
}

export class TicketRotation {
  readonly #held = new Map<string, HeldTicket>();

  add(ticketId: string, version: ModelVersion): void {
    this.#held.set(ticketId, { ticketId, version, mode: "active", lingerUntilMs: 0 });
  }

  end(ticketId: string): void {
    this.#held.delete(ticketId);
  }

  get size(): number {
    return this.#held.size;
  }

  all(): HeldTicket[] {
    return [...this.#held.values()];
  }

  /** The next ticket that should look into its queue. Each look moves it to the end of the line. */
  next(nowMs: number): HeldTicket | undefined {
    for (const ticket of this.#held.values()) {
      if (ticket.mode === "lingering" && ticket.lingerUntilMs <= nowMs) ticket.mode = "closing";
      if (ticket.mode === "lingering") continue;
      this.#held.delete(ticket.ticketId);
      this.#held.set(ticket.ticketId, ticket);
      return ticket;
    }
    return undefined;
  }

  linger(ticket: HeldTicket, untilMs: number): void {
    ticket.mode = "lingering";
    ticket.lingerUntilMs = untilMs;
  }

  /** Its queue has work: every ticket of the queue looks again. */
  wake(tag: string): void {
    for (const ticket of this.#held.values()) if (ticket.version.tag === tag) ticket.mode = "active";
  }

  /** When the first linger ends; undefined when nothing lingers. */
  nextEndMs(): number | undefined {
    let first: number | undefined;
    for (const ticket of this.#held.values()) {
      if (ticket.mode === "lingering" && (first === undefined || ticket.lingerUntilMs < first)) first = ticket.lingerUntilMs;
    }
    return first;
  }
}
