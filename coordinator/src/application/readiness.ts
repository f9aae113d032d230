/** What keeps this coordinator from being ready, for /readyz. */

import type { HostRegistry } from "../ports/host-registry.ts";
import type { JobStore } from "../ports/job-store.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";

/** Of `unready`. */
export const readinessChecks = ["store", "models", "hosts"] as const;

export interface ReadinessParts {
  store: Pick<JobStore, "health">;
  models: Pick<ModelRegistry, "indexed">;
  hosts: Pick<HostRegistry, "list">;
  /** How many workers must have registered before this coordinator is ready. */
  expectedHosts: number;
}

export class Readiness {
  readonly #parts: ReadinessParts;
  #reachedExpected = false;

  constructor(parts: ReadinessParts) {
    this.#parts = parts;
  }

  /** Empty when it is ready. */
  unready(): { check: string; detail: string }[] {
    const { expectedHosts, hosts, models, store } = this.#parts;
    const failed: { check: (typeof readinessChecks)[number]; detail: string }[] = [];
    if (!store.health().answering) failed.push({ check: "store", detail: "Redis does not answer" });
    if (!models.indexed()) failed.push({ check: "models", detail: "the model repository is not indexed yet" });
    const ready = hosts.list().filter((host) => host.state === "ready").length;
    if (ready < this.#started(ready))
      failed.push({ check: "hosts", detail: `${ready} of ${expectedHosts} started workers have registered` });
    return failed;
  }

  /** Every started worker must have registered once; later losses are the sweeper's business, not a reason to stop answering. */
  #started(ready: number): number {
    if (ready >= this.#parts.expectedHosts) this.#reachedExpected = true;
    return this.#reachedExpected ? 0 : this.#parts.expectedHosts;
  }
}
