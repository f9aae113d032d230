/** A sweep for people: one line a point as it is measured, then bars. */

import type { BenchPoint, PointLoad } from "./point.ts";

const columns = ["jobs/s", "in time/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "refused", "expired", "late", "failed"] as const;
const firstWidth = 14;
const width = 11;
const barWidth = 40;
/** A bar's last character, by eighths. */
const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

export function headLine(kind: "clients" | "rate"): string {
  return (
    (kind === "clients" ? "CLIENTS" : "RATE/S").padStart(firstWidth) + columns.map((name) => name.toUpperCase().padStart(width)).join("")
  );
}

export function pointLine({ load, counts, answeredPerSecond, inTimePerSecond, latencyMs }: BenchPoint): string {
  const times = [latencyMs?.p50, latencyMs?.p90, latencyMs?.p99, latencyMs?.max].map((ms) => (ms === undefined ? "-" : figure(ms)));
  const cells = [figure(answeredPerSecond), figure(inTimePerSecond), ...times, counts.refused, counts.expired, counts.late, counts.failed];
  return figure(loadOf(load)).padStart(firstWidth) + cells.map((cell) => String(cell).padStart(width)).join("");
}

/** What a line has no room for. */
export function remarks(point: BenchPoint): string[] {
  const found = Object.entries(point.refusedBy).map(([code, count]) => `${count} refused with ${code}`);
  if (point.failure !== undefined) found.push(`the first failure: ${point.failure}`);
  if (point.notSent > 0)
    found.push(`${point.notSent} jobs were NOT SENT, because too many were under way: take a lower rate or more clients`);
  return found;
}

export const loadOf = (load: PointLoad): number => ("clients" in load ? load.clients : load.perSecond);

/** Bars of one figure over the points; empty when no point has it. */
export function barPlot(title: string, points: readonly BenchPoint[], value: (point: BenchPoint) => number | undefined): string {
  const most = Math.max(0, ...points.map((point) => value(point) ?? 0));
  if (most === 0) return "";
  const lines = points.map((point) => {
    const size = ((value(point) ?? 0) / most) * barWidth;
    const bar = "█".repeat(Math.floor(size)) + eighths[Math.floor((size % 1) * 8)]!;
    const shown = value(point);
    return `${figure(loadOf(point.load)).padStart(firstWidth)} │${bar} ${shown === undefined ? "-" : figure(shown)}`;
  });
  return [title.padStart(firstWidth), ...lines].join("\n");
}

/** Three figures, whole numbers above a hundred. */
function figure(value: number): string {
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}
