/** The hosts that are registered, as their heartbeats in the store say. */

import type { HostView } from "@switchyard/protocol";

/** One host as it was read last. Queues are named by their tags; the application turns them into model names for views. */
export interface HostSnapshot {
  incarnation: string;
  view: HostView;
  /** Its device class: hosts of one take alike long for a run. */
  device: string;
  /** Queues whose tickets it takes directly. */
  subscribed: string[];
  /** Queues whose model it holds loaded, and how it batches them. */
  loaded: Record<string, { maxItems: number; reason: string }>;
  /** Queues whose model it could not load, with the reason. */
  failures: Record<string, string>;
  /** Claims that it knows of, `<tag>=<sequence>`. */
  claims: string[];
  lostMs: number | undefined;
}

export interface HostRegistry {
  /** Hosts to show: ready, draining and lately lost ones. A snapshot at most a second old. */
  list(): HostView[];
  /** Hosts that may run this queue's jobs now: those that hold its model, else those that could load it. */
  matching(tag: string): number;
}

/** What placement and repair need besides. */
export interface HostDirectory extends HostRegistry {
  /** Rises with each refresh: what was derived from an older one must be derived again. */
  generation(): number;
  /** Every host that is remembered, long lost ones too. */
  snapshots(): readonly HostSnapshot[];
  /** Ready hosts that take this queue's tickets directly. */
  warm(tag: string): number;
  /** Ready hosts that could load this queue's model. */
  capable(tag: string): number;
  /** The hosts that match, see there, counted by their device class. */
  devices(tag: string): readonly { device: string; count: number }[];
  /** Whether a ready host holds the queue's model. */
  isWarm(tag: string): boolean;
  /** Reads the heartbeats and decides losses. */
  refresh(): Promise<void>;
}
