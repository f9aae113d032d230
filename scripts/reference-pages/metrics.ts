/** docs/reference/metrics.md: what the two registries declare. */

import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { HostMetrics } from "../../worker/src/host-metrics.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

type Families = ReturnType<typeof prometheusMetrics>["families"];

/** Of the coordinator and of the worker, by name. */
export function declaredMetrics(): { coordinator: Families; worker: Families } {
  const byName = (families: Families): Families => families.toSorted((left, right) => left.name.localeCompare(right.name));
  return {
    coordinator: byName(prometheusMetrics({ version: "0", processMetrics: false }).families),
    worker: byName(new HostMetrics({ version: "0", host: "host", processMetrics: false }).families),
  };
}

function table(families: Families): string {
  const rows = families.map(({ edges, help, labels, name, type }) => [
    code(name),
    type,
    labels.map(code).join(", ") || "none",
    edges === undefined ? help : `${help}. Edges: ${edges.join(", ")}`,
  ]);
  return markdownTable(["name", "type", "labels", "meaning"], rows);
}

export async function metricsPage(): Promise<string> {
  const { coordinator, worker } = declaredMetrics();
  const text = `
As OpenMetrics, on the metrics port: the coordinator on \`SWITCHYARD_METRICS\`, worker n on that port + n, or on a free one
if it is taken (\`/v1/hosts\` shows where). Durations are in seconds. *The leader's* are exported by one coordinator at a time, so that sums over
coordinators are right. Each process also serves prom-client's default metrics of Node. [How to use them](../observability.md).

## Coordinator

${table(coordinator)}

## Worker

${table(worker)}`;
  return generatedPage("Metrics", "coordinator/src/adapters/prometheus-metrics.ts and worker/src/host-metrics.ts", text);
}
