/** The hosts that are registered, as their heartbeats in the store say. */

import type { ChangingFacts, HostFacts, HostView } from "@switchyard/protocol";

/** One host as it was read last. Queues are named by their tags; the application turns them into model names for views. */
export interface HostSnapshot {
  incarnation: string;
  view: HostView;
  facts: HostFacts;
  /** Queues whose tickets it takes directly. */
  subscribed: string[];
  /** Queues whose model it holds loaded, and how it batches them. */
  loaded: ChangingFacts["loaded"];
  /** Device milliseconds that runs took so far, by queue. */
  usedMs: Readonly<Record<string, number>>;
  /** Runs and their items so far, by queue. */
  batches: NonNullable<ChangingFacts["batches"]>;
  /** How it sees the folder of large values on a disk of its own machine; see `sightOfFolder`. */
  blobFolder: string | undefined;
  /** Queues whose model it could not load, with the reason. */
  failures: Record<string, string>;
  /** Claims that it knows of, `<tag>=<sequence>`. */
  claims: string[];
  /** Not known yet where this look has decided the loss. */
  lostMs: number | undefined;
  /** It said goodbye, and will not be listed by the next look: that is no loss. */
  hasLeft: boolean;
}

export interface HostRegistry {
  /** Hosts to show: ready, draining and lately lost ones. A snapshot at most a second old. */
  list(): HostView[];
  /** Hosts that may run this queue's jobs now: those that hold its model, else those that could load it. */
  matching(tag: string): number;
}

/**
 * Where a ticket goes: to hosts that hold the model warm or to ones that would have to load it, and, where it matters who takes it, to those
 * of one profile only.
 */
export interface TicketRoute {
  warm: boolean;
  profile?: string;
}

/** `best`: whoever should run it now. `cold`: of these, also hosts that have not loaded it. `wider`: hosts that are not preferred, too. */
export type TicketReach = "best" | "cold" | "wider";

/** What placement and repair need besides. */
export interface HostDirectory extends HostRegistry {
  /** Rises with each refresh: what was derived from an older one must be derived again. */
  generation(): number;
  /** Every host that is remembered, long lost ones too. */
  snapshots(): readonly HostSnapshot[];
  /** Ready hosts that take this queue's tickets directly, and that should. */
  warm(tag: string): number;
  /** Ready hosts that could load this queue's model, and that should. */
  capable(tag: string): number;
  /** The hosts that match, see there, counted by their device class. */
  devices(tag: string): readonly { device: string; count: number }[];
  /** Whether a ready host holds the queue's model. */
  isWarm(tag: string): boolean;
  /** Ready hosts that have all that this queue's jobs require. */
  able(tag: string): readonly HostSnapshot[];
  /** Ready hosts that would be asked only if no better one were there. */
  spare(tag: string): readonly HostSnapshot[];
  /** Incarnations of two ready hosts that could run this queue's jobs, or of as many as there are: whoever has one in hand, another is among two. */
  takers(tag: string): readonly string[];
  /** What no ready host has of what this queue's jobs require; empty when one has it all. */
  missing(tag: string): readonly string[];
  /** Nothing while no ready host may take the ticket. */
  route(tag: string, reach: TicketReach): TicketRoute | undefined;
  /** Reads the heartbeats and decides losses. */
  refresh(): Promise<void>;
}
