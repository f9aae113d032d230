/**
 * What one coordinator at a time tells of the cluster: hosts, what tenants wait for, how the store's servers do. That one leads which plans
 * placement. Whoever has not heard for a lease's time that it leads no longer does: nothing is worse than two that count the same jobs.
 */

import type { HostView } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobStore } from "../ports/job-store.ts";
import type { ClusterMetrics } from "../ports/metrics.ts";
import type { StoreFigures } from "../ports/store-figures.ts";

/** As long as the lease. */
const leadMs = 3_000;
/** Servers are asked in every so many rounds. */
const roundsPerServers = 3;

interface Parts {
  hosts: HostRegistry;
  jobs: Pick<JobStore, "waiting">;
  stores: StoreFigures;
  metrics: ClusterMetrics;
  clock: Clock;
  /** Queues that may have waiting jobs. */
  openTags: () => readonly string[];
}

export class ClusterFigures {
  readonly #parts: Parts;
  #untilMs = 0;
  #rounds = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  noteLead(leads: boolean): void {
    this.#untilMs = leads ? this.#parts.clock.monotonicMs() + leadMs : 0;
    if (!leads) this.#rounds = 0;
    this.#parts.metrics.leading(leads);
  }

  /** One round of the loop. */
  async round(): Promise<void> {
    const { clock, hosts, jobs, metrics, openTags, stores } = this.#parts;
    if (clock.monotonicMs() >= this.#untilMs) return this.noteLead(false);
    const states = new Map<HostView["state"], number>();
    for (const { state } of hosts.list()) states.set(state, (states.get(state) ?? 0) + 1);
    metrics.hostsSeen(states);
    const waiting = new Map<string, number>();
    for (const flow of await jobs.waiting(openTags())) waiting.set(flow.tenant, (waiting.get(flow.tenant) ?? 0) + flow.jobs);
    metrics.tenantsWaiting(waiting);
    if (this.#rounds++ % roundsPerServers === 0) metrics.storeServers(await stores.servers());
  }
}
