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
  /** A wake-up came since its last look: what that look found may be out of date. */
  woken: boolean;
}

export class TicketRotation {
  readonly #held = new Map<string, HeldTicket>();

  add(ticketId: string, version: ModelVersion): void {
    this.#held.set(ticketId, { ticketId, version, mode: "active", lingerUntilMs: 0, woken: false });
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

  /** The next ticket that should look into its queue. Each look moves it to the end of the line. Tickets of closed queues keep their place. */
  next(nowMs: number, isClosed: (tag: string) => boolean): HeldTicket | undefined {
    for (const ticket of this.#held.values()) {
      if (isClosed(ticket.version.tag)) continue;
      if (ticket.mode === "lingering" && ticket.lingerUntilMs <= nowMs) ticket.mode = "closing";
      if (ticket.mode === "lingering") continue;
      this.#held.delete(ticket.ticketId);
      this.#held.set(ticket.ticketId, ticket);
      ticket.woken = false;
      return ticket;
    }
    return undefined;
  }

  /** Its queue was empty. A wake-up that overtook this answer keeps it active. */
  linger(ticket: HeldTicket, untilMs: number): void {
    ticket.mode = ticket.woken ? "active" : "lingering";
    ticket.lingerUntilMs = untilMs;
  }

  /** It looks no more before then, unless it is woken. */
  pause(ticket: HeldTicket, untilMs: number): void {
    ticket.mode = "lingering";
    ticket.lingerUntilMs = untilMs;
  }

  /** Its queue has work: every ticket of the queue looks again. */
  wake(tag: string): void {
    for (const ticket of this.#held.values()) {
      if (ticket.version.tag !== tag) continue;
      ticket.mode = "active";
      ticket.woken = true;
    }
  }

  /** When the first linger ends; undefined when nothing lingers. Tickets of closed queues do not count. */
  nextEndMs(isClosed: (tag: string) => boolean): number | undefined {
    let first: number | undefined;
    for (const ticket of this.#held.values()) {
      if (ticket.mode !== "lingering" || isClosed(ticket.version.tag)) continue;
      if (first === undefined || ticket.lingerUntilMs < first) first = ticket.lingerUntilMs;
    }
    return first;
  }
}
