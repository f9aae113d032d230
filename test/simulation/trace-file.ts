/**
 * Loads as files, to be repeated elsewhere: a line of column names, then one line per job, in the order of time. Numbers are milliseconds and
 * items; names hold no comma.
 */

import { type JobClass, jobClasses } from "@switchyard/protocol";
import type { Arrival } from "./loads.ts";

const columns = ["at_ms", "model", "class", "tenant", "tenant_weight", "timeout_ms", "items"];

export function traceText(arrivals: readonly Arrival[]): string {
  const lines = arrivals.map((one) =>
    [one.atMs.toFixed(3), one.model, one.class, one.tenant, one.tenantWeight, one.timeoutMs, one.items].join(","),
  );
  return `${[columns.join(","), ...lines].join("\n")}\n`;
}

/** Throws with the line that cannot be read. */
export function parseTrace(text: string): Arrival[] {
  const [head, ...lines] = text.split(/\r?\n/);
  if (head !== columns.join(",")) throw new Error(`line 1: expected ${columns.join(",")}, got ${head}`);
  const arrivals: Arrival[] = [];
  for (const [at, line] of lines.entries()) {
    if (line === "") continue;
    const [atMs, model, one, tenant, tenantWeight, timeoutMs, items, ...more] = line.split(",");
    const numbers = [atMs, tenantWeight, timeoutMs, items].map(Number);
    const before = arrivals.at(-1)?.atMs ?? 0;
    const isRead = model && tenant && jobClasses.includes(one as JobClass) && numbers.every((value) => value >= 0) && more.length === 0;
    if (!isRead || Number(atMs) < before)
      throw new Error(`line ${at + 2}: expected ${columns.join(",")} in the order of time, got ${line}`);
    const [when, weight, timeout, count] = numbers as [number, number, number, number];
    arrivals.push({ atMs: when, model, class: one as JobClass, tenant, tenantWeight: weight, timeoutMs: timeout, items: count });
  }
  return arrivals;
}
