/** Which tickets of one queue live, and how many are missing; the rules of lua/lib-tickets.lua over a Map, without BullMQ and so without its locks. */

export const heldMarginMs = 1_500;
const wakeMarginMs = 60;
const untakenMarginMs = 400;
const deferMarginMs = 10;
const forgetUntakenMs = 30_000;

export interface Ticket {
  state: "issued" | "held" | "busy" | "lingering" | "deferring" | "leaving";
  /** Empty while nobody took it. */
  incarnation: string;
  untilMs: number;
}

export interface TicketNeed {
  waiting: number;
  waitingItems: number;
  matchingHosts: number;
  batchItems: number;
  /** The smallest latest start of the jobs that came just now, or came back. */
  urgentMs?: number;
  /** Forget tickets that are lost. */
  repair: boolean;
}

export class MemoryTickets {
  readonly all = new Map<string, Ticket>();
  readonly #tag: string;
  readonly #wake: (incarnation: string) => void;
  #counter = 0;

  constructor(tag: string, wake: (incarnation: string) => void) {
    this.#tag = tag;
    this.#wake = wake;
  }

  holds(ticketId: string, incarnation: string): boolean {
    return this.all.get(ticketId)?.incarnation === incarnation;
  }

  lingers(ticketId: string, nowMs: number): boolean {
    const ticket = this.all.get(ticketId);
    return ticket?.state === "lingering" && ticket.untilMs > nowMs;
  }

  set(ticketId: string, state: Ticket["state"], incarnation: string, untilMs: number): void {
    this.all.set(ticketId, { state, incarnation, untilMs });
  }

  hold(ticketId: string, incarnation: string, nowMs: number, how: "occupied" | "" = ""): void {
    this.set(ticketId, how === "occupied" ? "busy" : "held", incarnation, nowMs + heldMarginMs);
  }

  /** Keeps a held or busy ticket counted; lingering and deferring are bounded and never prolonged, but that a holder leaves. */
  renew(ticketId: string, nowMs: number, how: "occupied" | "leaving" | "" = ""): void {
    const ticket = this.all.get(ticketId);
    if (!ticket) return;
    if (how === "leaving") {
      ticket.state = "leaving";
      ticket.untilMs = nowMs + heldMarginMs;
      return;
    }
    if (ticket.state === "lingering" || ticket.state === "deferring") return;
    else if (how === "occupied" && ticket.state === "held") ticket.state = "busy";
    ticket.untilMs = Math.max(ticket.untilMs, nowMs + heldMarginMs);
  }

  dropHolder(incarnation: string): void {
    for (const [id, ticket] of this.all) if (ticket.incarnation === incarnation) this.all.delete(id);
  }

  /** A host that holds several counts once, and as busy while one of them is. */
  #count(nowMs: number, { waitingItems, batchItems, urgentMs = Number.POSITIVE_INFINITY, repair }: TicketNeed) {
    const count = { free: 0, busy: 0, untaken: 0, stale: [] as string[], idle: undefined as Ticket | undefined };
    const busy = new Set<string>();
    const free = new Set<string>();
    for (const { state, incarnation, untilMs } of this.all.values())
      if (untilMs > nowMs && state !== "issued" && state !== "leaving") (state === "busy" ? busy : free).add(incarnation);
    count.busy = busy.size;
    count.free = free.difference(busy).size;
    const mayDefer = ({ untilMs }: Ticket): boolean => waitingItems < batchItems && urgentMs > untilMs + deferMarginMs;
    for (const [id, ticket] of this.all) {
      const live = ticket.untilMs > nowMs;
      if (ticket.state === "issued") {
        count.untaken++;
        if (!live) count.stale.push(id);
      }
      if (live && ticket.state === "issued") count.free++;
      else if (live) {
        const isWoken = ticket.state === "lingering" || (ticket.state === "deferring" && !mayDefer(ticket));
        if (isWoken && !busy.has(ticket.incarnation)) count.idle ??= ticket;
      } else if (repair && (ticket.state !== "issued" || ticket.untilMs + forgetUntakenMs < nowMs)) this.all.delete(id);
    }
    return count;
  }

  /**
   * Issues what is missing for the waiting jobs and answers the ticket ids to offer. Wakes one host that lingers, or that waits for a batch which is
   * full now or has no time left.
   */
  issue(nowMs: number, need: TicketNeed): string[] {
    const { waiting, waitingItems, matchingHosts, batchItems } = need;
    if (waiting === 0) return [];
    const count = this.#count(nowMs, need);
    if (count.idle) {
      count.idle.state = "held";
      count.idle.untilMs = nowMs + wakeMarginMs;
      this.#wake(count.idle.incarnation);
    }
    let want = Math.min(Math.max(matchingHosts - count.busy, 0), Math.ceil(waitingItems / batchItems), waiting);
    if (want === 0 && count.free + count.busy === 0) want = 1; // a host that comes later takes it
    const room = matchingHosts + 1 - count.untaken;
    const offered: string[] = [];
    for (let at = 1; at <= want - count.free; at++) {
      const ticketId = at > room ? count.stale.pop() : `${this.#tag}-t${++this.#counter}`;
      if (!ticketId) break;
      this.set(ticketId, "issued", "", nowMs + untakenMarginMs);
      offered.push(ticketId);
    }
    return offered;
  }
}
