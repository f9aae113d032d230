/** One host: the tickets that it holds, in rotation, and what it is doing. It decides nothing; cluster.ts moves it. */

import { DeviceTimes } from "../../worker/src/runner/device-times.ts";
import type { HostSpec } from "./machines.ts";

export interface HeldTicket {
  model: string;
  ticketId: string;
  /** It was told to wait for company until then. */
  untilMs: number;
}

export class SimulatedHost {
  readonly spec: HostSpec;
  readonly loaded: Set<string>;
  /** Models that have run since they were loaded: the first run says nothing of the next. */
  readonly warmed = new Set<string>();
  readonly sequences = new Map<string, number>();
  readonly times = new DeviceTimes();
  tickets: HeldTicket[] = [];
  alive = true;
  running = false;
  #lives = 1;

  constructor(spec: HostSpec) {
    this.spec = spec;
    this.loaded = new Set(spec.cold ? [] : spec.models);
  }

  get incarnation(): string {
    return `${this.spec.id}.${this.#lives}`;
  }

  get idle(): boolean {
    return this.alive && !this.running;
  }

  holds(model: string): boolean {
    return this.tickets.some((ticket) => ticket.model === model);
  }

  drop(ticketId: string): void {
    this.tickets = this.tickets.filter((ticket) => ticket.ticketId !== ticketId);
  }

  die(): void {
    this.alive = false;
    this.running = false;
    this.tickets = [];
    this.loaded.clear();
    this.warmed.clear();
    this.sequences.clear();
  }

  restart(): void {
    this.#lives++;
    this.alive = true;
  }
}
