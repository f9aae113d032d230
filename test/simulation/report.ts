/** What the simulation prints: a line per trial, in columns, or as JSON. The same seed gives the same bytes. */

import type { Judged } from "./trials.ts";

const columns: [head: string, of: (judged: Judged) => string][] = [
  ["load", ({ load }) => load.toFixed(1)],
  ["policy", ({ policy }) => policy],
  ["offered", ({ offered }) => offered.toFixed(2)],
  ["goodput", ({ goodput }) => goodput.toFixed(3)],
  ["in time", ({ inTime }) => percent(inTime)],
  ["refused", ({ refused }) => percent(refused)],
  ["missed", ({ missed }) => percent(missed)],
  ["false refusals", ({ falseRefusals }) => percent(falseRefusals)],
  ["wasted", ({ wasted }) => percent(wasted)],
  ["batch", ({ batchItems }) => batchItems.toFixed(1)],
  ["late starts", ({ lateStarts }) => String(lateStarts)],
  ["wait p50", ({ p50WaitMs }) => p50WaitMs.toFixed(1)],
  ["wait p99", ({ p99WaitMs }) => p99WaitMs.toFixed(1)],
  ["", ({ notes }) => notes],
];

const widths = columns.map(([head], at) => (at === 1 ? 9 : Math.max(head.length, 6)));

function percent(part: number): string {
  return `${(100 * part).toFixed(1)}%`;
}

export function headLine(): string {
  return lineOf(columns.map(([head]) => head));
}

export function trialLine(judged: Judged): string {
  return lineOf(columns.map(([, of]) => of(judged)));
}

export function jsonLine(scenario: string, seed: number, judged: Judged): string {
  return JSON.stringify({ scenario, seed, ...judged }, (_name, value) => (typeof value === "number" ? Number(value.toFixed(6)) : value));
}

function lineOf(cells: readonly string[]): string {
  return cells
    .map((cell, at) => (at === 1 ? cell.padEnd(widths[at] as number) : cell.padStart(widths[at] as number)))
    .join("  ")
    .trimEnd();
}
