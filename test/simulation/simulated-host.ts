/** One host: the tickets that it holds, in the product's own rotation, and what it is doing. It decides nothing; cluster.ts moves it. */

import type { ModelVersion } from "@switchyard/protocol";
import { DeviceTimes } from "../../worker/src/runner/device-times.ts";
import { type HeldTicket, TicketRotation } from "../../worker/src/runner/ticket-rotation.ts";
import type { HostSpec } from "./machines.ts";

const versionOf = (model: string): ModelVersion => ({ tag: model, model, version: 1 }) as ModelVersion;

export class SimulatedHost {
  readonly spec: HostSpec;
  readonly loaded: Set<string>;
  /** Models that have run since they were loaded: the first run says nothing of the next. */
  readonly warmed = new Set<string>();
  readonly sequences = new Map<string, number>();
  rotation = new TicketRotation();
  times = new DeviceTimes();
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
    return this.rotation.all().some(({ version }) => version.tag === model);
  }

  takes(model: string, ticketId: string): void {
    this.rotation.add(ticketId, versionOf(model));
  }

  ran(model: string, ms: number): void {
    this.rotation.used(versionOf(model), ms);
  }

  /** Whose queue it looks into now. */
  turn(nowMs: number): HeldTicket | undefined {
    return this.rotation.next(nowMs, () => false);
  }

  die(): void {
    this.alive = false;
    this.running = false;
    this.rotation = new TicketRotation();
    this.times = new DeviceTimes();
    this.loaded.clear();
    this.warmed.clear();
    this.sequences.clear();
  }

  restart(): void {
    this.#lives++;
    this.alive = true;
  }
}
