/**
 * The tickets that a runner holds, and whose turn it is. A ticket is *active* (its queue may have work), *lingering* (its queue was empty;
 * it waits a moment for a wake-up), *deferring* (its queue waits for a fuller batch) or *closing* (its linger is over: one last look retires
 * it). Tickets with work take turns by the device time that their models have had: a queue of jobs with a requirement of their own has no
 * share beside its model's.
 */

import type { ModelVersion } from "@switchyard/protocol";
import type { Handed } from "./claims.ts";
import type { Unready } from "./messages.ts";

export interface HeldTicket {
  ticketId: string;
  version: ModelVersion;
  unready: Unready;
  mode: "active" | "lingering" | "deferring" | "closing";
  /** Local monotonic ms; only while lingering or deferring. */
  lingerUntilMs: number;
  /** A wake-up came since its last look: what that look found may be out of date. */
  woken: boolean;
  /** What its next look would find: it came with the wake-up. */
  handed?: Handed["batch"] | undefined;
}

/** The model of the held tickets with the longest last run, and the longest of the others. */
interface Longest {
  sharer: string;
  ms: number;
  secondMs: number;
}

/** Whose time a queue uses. */
const sharerOf = ({ model, version }: ModelVersion): string => `${model}@${version}`;

export class TicketRotation {
  readonly #held = new Map<string, HeldTicket>();
  /** Start-time fair queueing over the models: where each stands on the device's time line, and where the line stands. */
  readonly #usedMs = new Map<string, number>();
  #virtualMs = 0;
  /** How long each model had the device when it had it last. Both maps hold what models ever came here. */
  readonly #lastMs = new Map<string, number>();

  add(ticketId: string, version: ModelVersion, unready: Unready = "tell"): void {
    this.#held.set(ticketId, { ticketId, version, unready, mode: "active", lingerUntilMs: 0, woken: false });
  }

  end(ticketId: string): void {
    this.#held.delete(ticketId);
  }

  /** The queue had the device for so long: others come first until they had as much. */
  used(version: ModelVersion, ms: number): void {
    const sharer = sharerOf(version);
    this.#usedMs.set(sharer, this.#startOf(version) + ms);
    if (ms > 0) this.#lastMs.set(sharer, ms);
  }

  /** What it was said to use was so much too little, or too much. */
  corrected(version: ModelVersion, ms: number): void {
    const sharer = sharerOf(version);
    const usedMs = this.#usedMs.get(sharer);
    if (usedMs !== undefined) this.#usedMs.set(sharer, usedMs + ms);
    this.#lastMs.set(sharer, Math.max(0, (this.#lastMs.get(sharer) ?? 0) + ms));
  }

  /**
   * A model that was away has a run saved up: of its own or the longest of those that have tickets here, whichever is shorter. Where runs are alike it would
   * have to wait for another of the neighbour's otherwise when a second job came while its first one ran.
   */
  #startOf(version: ModelVersion, longest: Longest = this.#longest()): number {
    const sharer = sharerOf(version);
    const neighbourMs = longest.sharer === sharer ? longest.secondMs : longest.ms;
    const creditMs = Math.min(neighbourMs, this.#lastMs.get(sharer) ?? 0);
    return Math.max(this.#virtualMs - creditMs, this.#usedMs.get(sharer) ?? 0);
  }

  #longest(): Longest {
    const longest = { sharer: "", ms: 0, secondMs: 0 };
    for (const { version } of this.#held.values()) {
      const sharer = sharerOf(version);
      const ms = this.#lastMs.get(sharer) ?? 0;
      if (sharer === longest.sharer) continue;
      if (ms > longest.ms) Object.assign(longest, { sharer, ms, secondMs: longest.ms });
      else longest.secondMs = Math.max(longest.secondMs, ms);
    }
    return longest;
  }

  /** That ticket, where it is the only one and lingers. */
  lingersAlone(ticketId: string): HeldTicket | undefined {
    const ticket = this.#held.size === 1 ? this.#held.get(ticketId) : undefined;
    return ticket?.mode === "lingering" ? ticket : undefined;
  }

  /** The ticket whose next look has come by itself. */
  withHanded(): HeldTicket | undefined {
    for (const ticket of this.#held.values()) if (ticket.handed) return ticket;
    return undefined;
  }

  get size(): number {
    return this.#held.size;
  }

  all(): HeldTicket[] {
    return [...this.#held.values()];
  }

  /**
   * The next ticket that should look into its queue: of the queues with work, the one that had the device least. Each look moves its ticket to
   * the end of the line. Tickets of closed queues keep their place.
   */
  next(nowMs: number, isClosed: (tag: string) => boolean): HeldTicket | undefined {
    for (const ticket of this.#held.values()) {
      if (isClosed(ticket.version.tag) || ticket.lingerUntilMs > nowMs) continue;
      if (ticket.mode === "lingering") ticket.mode = "closing";
      if (ticket.mode === "deferring") ticket.mode = "active";
    }
    const best = this.#first((ticket) => (ticket.mode === "active" || ticket.mode === "closing") && !isClosed(ticket.version.tag));
    if (best) this.take(best);
    return best;
  }

  /** Whose turn it would be, of the queues that may have work; nobody's while a ticket is due to be given up, for which the device must be free once. */
  upcoming(nowMs: number, isClosed: (tag: string) => boolean): HeldTicket | undefined {
    for (const { lingerUntilMs, mode, version } of this.#held.values()) {
      if ((mode === "closing" || (mode === "lingering" && lingerUntilMs <= nowMs)) && !isClosed(version.tag)) return undefined;
    }
    return this.#first(({ lingerUntilMs, mode, version }) => {
      return (mode === "active" || (mode === "deferring" && lingerUntilMs <= nowMs)) && !isClosed(version.tag);
    });
  }

  /** It looks now. */
  take(ticket: HeldTicket): void {
    this.#virtualMs = Math.max(this.#virtualMs, this.#startOf(ticket.version));
    this.#held.delete(ticket.ticketId);
    this.#held.set(ticket.ticketId, ticket);
    ticket.woken = false;
  }

  /** Of those, the one whose queue had the device least. */
  #first(isMeant: (ticket: HeldTicket) => boolean): HeldTicket | undefined {
    const longest = this.#longest();
    let [best, bestMs]: [HeldTicket | undefined, number] = [undefined, Number.POSITIVE_INFINITY];
    for (const ticket of this.#held.values()) {
      if (!isMeant(ticket)) continue;
      const startMs = this.#startOf(ticket.version, longest);
      if (startMs < bestMs) [best, bestMs] = [ticket, startMs];
    }
    return best;
  }

  /** Its queue was empty. A wake-up that overtook this answer keeps it active. */
  linger(ticket: HeldTicket, untilMs: number): void {
    ticket.mode = ticket.woken ? "active" : "lingering";
    ticket.lingerUntilMs = untilMs;
  }

  /** Its queue has too few jobs for a batch that may still fill. A wake-up that overtook this answer keeps it active. */
  defer(ticket: HeldTicket, untilMs: number): void {
    ticket.mode = ticket.woken ? "active" : "deferring";
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
      if ((ticket.mode !== "lingering" && ticket.mode !== "deferring") || isClosed(ticket.version.tag)) continue;
      if (first === undefined || ticket.lingerUntilMs < first) first = ticket.lingerUntilMs;
    }
    return first;
  }
}
