/** Names of metrics in queries and pages, and where each may come from. */

import { declaredMetrics } from "../../scripts/reference-pages/metrics.ts";

/** Ours are all that begin so; of others, those that dashboards and rules use. */
const inQueries = /(?:\b\w+:)?\b(?:switchyard|process|nodejs|scrape|DCGM)_\w+(?::\w+)?|\bup\b/g;
const inPages = /(?:\b\w+:)?\bswitchyard_[a-z0-9_]*[a-z0-9](?::\w+)?/g;

/** Of a PromQL expression; what stands in quotes, in braces before `=`, or behind `by` is none. */
export function namesInQuery(expr: string): string[] {
  return [...new Set(expr.replace(/"[^"]*"/g, '""').match(inQueries) ?? [])];
}

/** Of a page of documentation. */
export function namesInPage(text: string): string[] {
  return [...new Set(text.match(inPages) ?? [])];
}

/** Every series name that coordinators and workers declare. */
export function declaredSeries(): Set<string> {
  const { coordinator, worker } = declaredMetrics();
  return new Set(
    [...coordinator, ...worker].flatMap(({ name, type }) =>
      type === "histogram" ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

/** Series that Prometheus itself or other exporters make. */
export const foreignSeries: ReadonlySet<string> = new Set([
  "up",
  "scrape_duration_seconds",
  "process_cpu_seconds_total",
  "process_resident_memory_bytes",
  "nodejs_eventloop_lag_p99_seconds",
  "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
  "DCGM_FI_DEV_FB_USED",
]);
