/** docs/reference/metrics.md: names and labels, from the two files that declare them. */

import { readFileSync } from "node:fs";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { HostMetrics } from "../../worker/src/host-metrics.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

interface Declared {
  name: string;
  type: string;
  help: string;
  labels: string[];
}

/** Families that the text of a registry declares; those without samples yet are declared too. */
function families(text: string): Map<string, { type: string; help: string }> {
  const help = new Map([...text.matchAll(/^# HELP (\S+) (.*)$/gm)].map(([, name, words]) => [name!, words!]));
  return new Map(
    [...text.matchAll(/^# TYPE (switchyard_\S+) (\S+)$/gm)].map(([, name, type]) => [name!, { type: type!, help: help.get(name!) ?? "" }]),
  );
}

/** Labels stand only in the source: a series without samples shows none. */
function labelsIn(source: string, name: string): string[] {
  const text = readFileSync(new URL(`../../${source}`, import.meta.url), "utf8");
  const at = text.indexOf(`"${name}"`);
  if (at < 0) throw new Error(`${name} is not declared in ${source}`);
  const list = /^[^;]*?(?:labelNames: |,\s*)\[([^\]]*)\]/.exec(text.slice(at).split(/;\n/, 1)[0]!)?.[1] ?? "";
  return [...list.matchAll(/"(\w+)"/g)].map(([, label]) => label!);
}

function declaredIn(source: string, text: string): Declared[] {
  const found = [...families(text)].map(([name, about]) => ({ name, ...about, labels: labelsIn(source, name) }));
  if (found.length < 5) throw new Error(`only ${found.length} metrics were found in ${source}`);
  return found.sort((a, b) => a.name.localeCompare(b.name));
}

function table(metrics: readonly Declared[]): string {
  const rows = metrics.map(({ name, type, help, labels }) => [code(name), type, labels.map(code).join(", ") || "none", help]);
  return markdownTable(["name", "type", "labels", "meaning"], rows);
}

export async function metricsPage(): Promise<string> {
  const coordinator = "coordinator/src/adapters/prometheus-metrics.ts";
  const worker = "worker/src/host-metrics.ts";
  const ofCoordinator = declaredIn(coordinator, await prometheusMetrics({ version: "0", processMetrics: false }).text());
  const ofWorker = declaredIn(worker, await new HostMetrics({ version: "0", host: "host" }).text());
  const text = `
In the text format of Prometheus, on the metrics port: the coordinator on \`SWITCHYARD_METRICS\`, worker n on that port + n, or on a free one
if it is taken (\`/v1/hosts\` shows where). Durations are in seconds. Each process also serves prom-client's default metrics of Node.

## Coordinator

${table(ofCoordinator)}

## Worker

${table(ofWorker)}`;
  return generatedPage("Metrics", `${coordinator} and ${worker}`, text);
}
