/** Results as text: one table per row with medians and ranges, then the promises and whether they were kept. */

import type { Cell } from "./cell.ts";
import type { Budget } from "./rows/budget.ts";
import type { FigureTable, RowResult } from "./rows/row.ts";
import { type Spread, spreadOf } from "./statistics.ts";

export type Titles = Record<string, string>;

export function reportRow(name: string, result: RowResult, titles: Titles): string {
  const title = `${name}: ${result.title}`;
  const parts = result.cells === undefined ? [title] : [table(comparison(title, result, titles))];
  if (result.table !== undefined) parts.push(figures(result.table));
  return [...parts, ...result.budgets.map(promise)].join("\n");
}

function comparison(title: string, result: RowResult, titles: Titles): string[][] {
  const lines = [[title, "jobs/s (range)", "p50 / p99 ms", "CPU µs per job", "jobs a run", "load", "quiet rounds"]];
  for (const [id, cells] of Object.entries(result.cells ?? {})) lines.push(systemLine(`${id}  ${titles[id] ?? ""}`, cells));
  for (const items of new Set(result.loops?.flat().map((cell) => cell.items))) {
    const cells = result.loops!.flat().filter((cell) => cell.items === items);
    const rate = spreadOf(cells.map((cell) => cell.jobsPerSecond));
    const cpu = spreadOf(cells.map((cell) => cell.cpuUsPerJob));
    const quiet = cells.filter((cell) => !cell.noise.isNoisy).length;
    lines.push([
      `c  bare onnxruntime loop, batch ${items}`,
      shown(rate),
      "",
      `loop ${cpu.median.toFixed(0)}`,
      String(items),
      "",
      `${quiet} of ${cells.length}`,
    ]);
  }
  return lines;
}

function figures({ titles, lines }: FigureTable): string {
  return table([titles, ...lines].map(([first = "", ...rest]) => [`  ${first}`, ...rest]));
}

function promise({ text, rounds, value, quietRounds, digits, isMet }: Budget): string {
  if (value === undefined) return `  MISS  ${text}: there was nothing to judge`;
  const seen = rounds.map((round) => `${round.value.toFixed(digits)}${round.isQuiet ? "" : " noisy"}`).join(", ");
  const counted = quietRounds > 0 ? "median of quiet rounds" : "no quiet round, median of all";
  return `  ${isMet ? "pass" : "MISS"}  ${text}: ${value.median.toFixed(digits)} (${counted}; rounds ${seen})`;
}

function systemLine(title: string, cells: readonly Cell[]): string[] {
  const median = (of: (cell: Cell) => number): number => spreadOf(cells.map(of)).median;
  const roles = Object.keys(cells[0]!.cpuUsPerJob);
  const cpu = roles.map((role) => `${role} ${median((cell) => cell.cpuUsPerJob[role] ?? 0).toFixed(0)}`).join(", ");
  const quiet = cells.filter((cell) => !cell.noise.isNoisy).length;
  const batch = cells[0]!.meanBatch === undefined ? "" : median((cell) => cell.meanBatch ?? 0).toFixed(1);
  const total = median((cell) => roles.filter((role) => role !== "load").reduce((sum, role) => sum + (cell.cpuUsPerJob[role] ?? 0), 0));
  return [
    title,
    shown(spreadOf(cells.map((cell) => cell.figures.jobsPerSecond))),
    `${median((cell) => cell.figures.latencyMs.p50).toFixed(2)} / ${median((cell) => cell.figures.latencyMs.p99).toFixed(2)}`,
    `${total.toFixed(0)}: ${cpu}`,
    batch,
    `${median((cell) => cell.loadPercent).toFixed(0)} %`,
    `${quiet} of ${cells.length}`,
  ];
}

function shown({ median, low, high }: Spread): string {
  const digits = median < 100 ? 2 : 0;
  return `${median.toFixed(digits)} (${low.toFixed(digits)}–${high.toFixed(digits)})`;
}

function table(lines: readonly string[][]): string {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
