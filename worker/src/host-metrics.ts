/** What a host counts; the only file of this package that imports prom-client. */

import type { ModelVersion } from "@switchyard/protocol";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { FromRunner } from "./runner/messages.ts";

const secondBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class HostMetrics {
  readonly #registry = new Registry();
  readonly #run = this.#histogram("switchyard_run_seconds", "Run of a batch on the device", ["model"], secondBuckets);
  readonly #queue = this.#histogram("switchyard_job_queue_seconds", "Admission to claim", ["model"], secondBuckets);
  readonly #batch = this.#histogram("switchyard_batch_jobs", "Jobs in a run", ["model"], [1, 2, 4, 8, 16, 32, 64, 128]);
  readonly #load = this.#histogram("switchyard_model_load_seconds", "Loading and warming a model", ["model"], secondBuckets);
  readonly #attempts = this.#counter("switchyard_attempts_total", "Executions by how they ended", ["model", "outcome"]);
  readonly #late = this.#counter("switchyard_runs_late_total", "Jobs whose deadline had passed when their run began; none should be", [
    "model",
  ]);
  readonly #locks = this.#counter("switchyard_ticket_lock_lost_total", "Ticket leases that could not be renewed", []);
  readonly #troubles = this.#counter("switchyard_presence_lost_total", "Times this process was declared lost", []);

  constructor(facts: { version: string; host: string }) {
    collectDefaultMetrics({ register: this.#registry });
    const build = new Gauge({
      name: "switchyard_build_info",
      help: "Always 1",
      labelNames: ["version", "host"],
      registers: [this.#registry],
    });
    build.set({ version: facts.version, host: facts.host }, 1);
    this.#locks.inc(0);
    this.#troubles.inc(0);
  }

  #histogram(name: string, help: string, labelNames: string[], buckets: number[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.#registry] });
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  ran(version: ModelVersion | undefined, message: FromRunner & { kind: "ran" }): void {
    const model = version?.model ?? "unknown";
    this.#run.observe({ model }, message.runMs / 1_000);
    this.#batch.observe({ model }, message.jobs);
    for (const queueMs of message.queueMs) this.#queue.observe({ model }, queueMs / 1_000);
    this.#late.inc({ model }, message.startedLate);
    for (const [outcome, count] of Object.entries(message.outcomes)) this.#attempts.inc({ model, outcome }, count);
  }

  modelLoaded(version: ModelVersion | undefined, loadMs: number): void {
    this.#load.observe({ model: version?.model ?? "unknown" }, loadMs / 1_000);
  }

  ticketLockLost(): void {
    this.#locks.inc();
  }

  presenceLost(): void {
    this.#troubles.inc();
  }

  contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}
