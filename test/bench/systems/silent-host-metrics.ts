/** Stands where a worker's metrics are, and does nothing. */

import type { HostMetrics as Real } from "../../../worker/src/host-metrics.ts";

export class HostMetrics implements Omit<Real, "families"> {
  registered(): void {}
  ran(): void {}
  modelLoaded(): void {}
  modelFailed(): void {}
  keepModels(): void {}
  ticketLockLost(): void {}
  presenceLost(): void {}
  storeRoundtrip(): void {}
  spans(): void {}

  contentType(): string {
    return "text/plain";
  }

  async text(): Promise<string> {
    return "";
  }
}
