/**
 * Whether the dashboards and rules of deploy/ say something: every query is asked of a Prometheus that reads a running Switchyard, and one that answers
 * nothing is a problem. It cannot see how Grafana draws it.
 */

import { readdirSync, readFileSync } from "node:fs";
import { namesInQuery } from "./metric-names.ts";

const folder = new URL("../../deploy/grafana/dashboards/", import.meta.url);

/** Panels that may be empty, by title, and why. */
export const mayBeEmpty: Readonly<Record<string, string>> = {
  "Replication lag": "needs a Redis with a replica",
  "GPU engines busy": "needs a GPU and dcgm-exporter",
  "GPU memory used": "needs a GPU and dcgm-exporter",
  "MCP servers connected": "needs an MCP server",
  "Connections to MCP servers lost": "needs an MCP server",
  "Calls of tools": "needs an MCP server",
  "Time of tools": "needs an MCP server",
};

interface DashboardFile {
  title: string;
  panels: PanelInFile[];
  templating: { list: { name: string; type: string; query?: unknown }[] };
  annotations?: { list: { name: string; expr?: string }[] };
}

export interface PanelInFile {
  type: string;
  title: string;
  description?: string;
  datasource?: { uid?: string };
  fieldConfig?: { defaults?: { unit?: string } };
  targets?: { expr: string; exemplar?: boolean; refId: string }[];
}

/** As Grafana would load them. */
export function dashboardFiles(): DashboardFile[] {
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return files.map((name) => JSON.parse(readFileSync(new URL(name, folder), "utf8")) as DashboardFile);
}

export const panelsOf = ({ panels }: DashboardFile): PanelInFile[] => panels.filter(({ type }) => type !== "row");

export interface Verdict {
  dashboards: number;
  panels: number;
  queries: number;
  rules: number;
  /** Names that something asks for. */
  names: string[];
  problems: string[];
  /** Panels that were empty and may be. */
  skipped: string[];
}

export interface VerifyOptions {
  /** How far back, in seconds. */
  seconds: number;
  /** What Grafana would put for $__rate_interval; four times the scrape interval at least. */
  rateInterval: string;
}

/** `prometheus` is its address. Throws when it does not answer. */
export async function verifyDashboards(prometheus: string, options: VerifyOptions): Promise<Verdict> {
  const ask = async <Data>(path: string, parameters: Record<string, string> = {}): Promise<Data> => {
    const answer = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const body = (await answer.json()) as { status: string; data: Data; error?: string };
    if (body.status !== "success") throw new Error(body.error ?? `status ${answer.status}`);
    return body.data;
  };
  const untilSeconds = Date.now() / 1_000;
  const range = { start: String(untilSeconds - options.seconds), end: String(untilSeconds), step: "1" };
  const verdict: Verdict = { dashboards: 0, panels: 0, queries: 0, rules: 0, names: [], problems: [], skipped: [] };
  const names = new Set<string>();

  const hasData = async (expr: string): Promise<boolean> => {
    const { result } = await ask<{ result: { values: [number, string][] }[] }>("query_range", { query: expr, ...range });
    return result.some(({ values }) => values.some(([, value]) => value !== "NaN"));
  };

  for (const dashboard of dashboardFiles()) {
    verdict.dashboards++;
    const values = new Map<string, string>([["__rate_interval", options.rateInterval]]);
    for (const { name, query, type } of dashboard.templating.list) {
      if (type !== "query") continue;
      const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(String(query)) ?? [];
      const found = label ? await ask<string[]>(`label/${label}/values`, { "match[]": metric!, start: range.start, end: range.end }) : [];
      if (found.length === 0) verdict.problems.push(`${dashboard.title}: the variable ${name} has no values: ${String(query)}`);
      values.set(name, found.map((value) => value.replace(/[.+*?^$()[\]{}|\\]/g, "\\\\$&")).join("|"));
    }
    const filled = (expr: string): string => expr.replace(/\$(\w+)/g, (whole, name: string) => values.get(name) ?? whole);
    for (const panel of panelsOf(dashboard)) {
      verdict.panels++;
      for (const { expr, refId } of panel.targets ?? []) {
        verdict.queries++;
        for (const name of namesInQuery(expr)) names.add(name);
        const place = `${dashboard.title} / ${panel.title} ${refId}`;
        const why = await hasData(filled(expr)).then(
          (found) => (found ? undefined : "no data"),
          (error: Error) => error.message,
        );
        if (why === "no data" && mayBeEmpty[panel.title]) verdict.skipped.push(`${place}: ${mayBeEmpty[panel.title]}`);
        else if (why) verdict.problems.push(`${place}: ${why}: ${filled(expr)}`);
      }
    }
    for (const { expr, name } of dashboard.annotations?.list ?? []) {
      if (expr === undefined) continue;
      for (const used of namesInQuery(expr)) names.add(used);
      await hasData(filled(expr)).catch((error: Error) =>
        verdict.problems.push(`${dashboard.title}, annotation ${name}: ${error.message}`),
      );
    }
  }

  const { groups } = await ask<{
    groups: { rules: { name: string; query: string; type: string; health: string; lastError?: string }[] }[];
  }>("rules");
  for (const { health, lastError, name, query, type } of groups.flatMap(({ rules }) => rules)) {
    verdict.rules++;
    for (const used of namesInQuery(query)) names.add(used);
    if (health !== "ok") verdict.problems.push(`rule ${name}: ${health}: ${lastError ?? "not evaluated yet"}`);
    if (type === "recording" && !(await hasData(name))) verdict.problems.push(`rule ${name}: it recorded nothing`);
  }
  const { activeTargets } = await ask<{
    activeTargets: { labels: { job: string; instance: string }; health: string; lastError: string }[];
  }>("targets", { state: "active" });
  if (activeTargets.length === 0) verdict.problems.push("Prometheus reads nothing");
  verdict.names = [...names].sort();
  return verdict;
}

/** Names of all series that Prometheus has. */
export async function seriesNames(prometheus: string): Promise<Set<string>> {
  const answer = await fetch(`${prometheus}/api/v1/label/__name__/values`);
  return new Set(((await answer.json()) as { data: string[] }).data);
}
