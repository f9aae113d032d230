/** Stands around a worker's metrics: what is counted while they are switched off reaches nobody. */

import { HostMetrics as Real } from "../../../worker/src/host-metrics.ts";
import { metricsSwitch } from "./metrics-switch.ts";

export class HostMetrics extends Real {
  override ran(...[version, message]: Parameters<Real["ran"]>): void {
    if (metricsSwitch.isOn) super.ran(version, message);
  }

  override storeRoundtrip(seconds: number): void {
    if (metricsSwitch.isOn) super.storeRoundtrip(seconds);
  }
}
