/** Stands around a coordinator's metrics: what is counted while they are switched off reaches nobody. */

import {
  type PrometheusMetrics,
  type PrometheusOptions,
  prometheusMetrics as real,
} from "../../../coordinator/src/adapters/prometheus-metrics.ts";
import { metricsSwitch } from "./metrics-switch.ts";

type Count = (...given: readonly unknown[]) => unknown;
const always = new Set(["text", "modelKnown", "modelGone"]);

export function prometheusMetrics(about: PrometheusOptions): PrometheusMetrics {
  const metrics = real(about);
  const switched = Object.entries(metrics).map(([name, count]) => [
    name,
    typeof count === "function" && !always.has(name) ? whenOn(count as Count) : count,
  ]);
  return Object.fromEntries(switched) as PrometheusMetrics;
}

/** No metric takes more than four arguments; gathered into an array they would cost both ways. */
function whenOn(count: Count): Count {
  return (one, two, three, four) => (metricsSwitch.isOn ? count(one, two, three, four) : undefined);
}
