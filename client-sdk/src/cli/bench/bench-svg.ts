/** A sweep as a picture of its own: rates above, latencies below, over the load. Pure. */

import { loadOf } from "./bench-text.ts";
import type { BenchPoint } from "./point.ts";

const [pictureWidth, panelHeight, gap] = [720, 260, 64];
const [left, right, top] = [64, 120, 48];

interface Line {
  name: string;
  colour: string;
  value: (point: BenchPoint) => number | undefined;
}

const rateLines: Line[] = [
  { name: "answered/s", colour: "#1f77b4", value: (point) => point.answeredPerSecond },
  { name: "in time/s", colour: "#2ca02c", value: (point) => point.inTimePerSecond },
];
const latencyLines: Line[] = [
  { name: "p50 ms", colour: "#9467bd", value: ({ latencyMs }) => latencyMs?.p50 },
  { name: "p90 ms", colour: "#ff7f0e", value: ({ latencyMs }) => latencyMs?.p90 },
  { name: "p99 ms", colour: "#d62728", value: ({ latencyMs }) => latencyMs?.p99 },
];

/** The points must be of one kind and rise. */
export function benchSvg(title: string, points: readonly BenchPoint[]): string {
  const axis = points[0] !== undefined && "clients" in points[0].load ? "clients" : "jobs/s offered";
  const height = top + 2 * panelHeight + gap + 40;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${pictureWidth} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${pictureWidth}" height="${height}" fill="white"/>`,
    `<text x="${left}" y="24" font-size="15">${escaped(title)}</text>`,
    panel(points, rateLines, { y: top, axis }),
    panel(points, latencyLines, { y: top + panelHeight + gap, axis }),
    "</svg>\n",
  ].join("\n");
}

function panel(points: readonly BenchPoint[], lines: readonly Line[], place: { y: number; axis: string }): string {
  const highest = niceCeiling(Math.max(...lines.flatMap(({ value }) => points.map((point) => value(point) ?? 0))));
  const plotWidth = pictureWidth - left - right;
  const x = (index: number): number => left + (points.length === 1 ? plotWidth / 2 : (index * plotWidth) / (points.length - 1));
  const y = (value: number): number => place.y + panelHeight - (value / highest) * panelHeight;
  const parts: string[] = [];
  for (let tick = 0; tick <= 4; tick++) {
    const at = (tick * highest) / 4;
    parts.push(`<line x1="${left}" x2="${left + plotWidth}" y1="${y(at)}" y2="${y(at)}" stroke="#ddd"/>`);
    parts.push(`<text x="${left - 8}" y="${y(at) + 4}" text-anchor="end">${Number(at.toPrecision(3))}</text>`);
  }
  for (const [index, { load }] of points.entries())
    parts.push(
      `<text x="${x(index)}" y="${place.y + panelHeight + 18}" text-anchor="middle">${Number(loadOf(load).toPrecision(4))}</text>`,
    );
  parts.push(`<text x="${left + plotWidth / 2}" y="${place.y + panelHeight + 36}" text-anchor="middle">${place.axis}</text>`);
  for (const [index, { name, colour, value }] of lines.entries()) {
    const known = points.map((point, at) => ({ at, value: value(point) })).filter((each) => each.value !== undefined);
    const path = known.map((each) => `${x(each.at).toFixed(1)},${y(each.value!).toFixed(1)}`).join(" ");
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const each of known)
      parts.push(`<circle cx="${x(each.at).toFixed(1)}" cy="${y(each.value!).toFixed(1)}" r="3" fill="${colour}"/>`);
    parts.push(`<text x="${left + plotWidth + 12}" y="${place.y + 12 + 18 * index}" fill="${colour}">${name}</text>`);
  }
  return parts.join("\n");
}

/** 1, 2, 2.5 or 5 times a power of ten, so that quarters of it read well. */
function niceCeiling(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= value)!;
}

function escaped(text: string): string {
  return text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]!);
}
