/** Lines over time: the only file that knows uPlot. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { theme } from "./theme.ts";

export interface Line {
  label: string;
  /** A custom property of the style sheet. */
  colour: string;
  values: readonly (number | null)[];
  fill?: boolean;
}

interface Props {
  title: string;
  /** Seconds since the epoch. */
  times: readonly number[];
  lines: readonly Line[];
  format: (value: number) => string;
}

const heightPx = 150;

export function Chart({ title, times, lines, format }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const data = [times, ...lines.map(({ values }) => values)] as uPlot.AlignedData;
  const shown = lines.map(({ label }) => label).join();
  const colours = theme.value;
  // made anew for other lines or colours; values are set below
  useEffect(() => {
    const element = place.current as HTMLDivElement;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: heightPx,
        cursor: { y: false, points: { size: 6 } },
        legend: { live: true },
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
        axes: [
          { ...axis, values: "{HH}:{mm}:{ss}", space: 80 },
          { ...axis, size: 64, values: (_plot, splits) => splits.map((value) => format(value)) },
        ],
        series: [
          { value: "{HH}:{mm}:{ss}" },
          ...lines.map(({ colour: name, fill, label }) => ({
            label,
            stroke: colour(name),
            width: 2,
            points: { show: false },
            value: (plot: uPlot, value: number | null, series: number, at: number | null) => {
              const shown = typeof at === "number" ? value : plot.data[series]?.at(-1); // the latest while nobody points
              return shown === null || shown === undefined ? "–" : format(shown);
            },
            ...(fill && { fill: `${colour(name)}22` }),
          })),
        ],
      },
      data,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: Math.max(200, element.clientWidth), height: heightPx }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [shown, colours]);
  useEffect(() => plot.current?.setData(data));
  const last = lines.map(
    ({ label, values }) => `${label} ${values.length > 0 && values.at(-1) !== null ? format(values.at(-1) as number) : "unknown"}`,
  );
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={place} role="img" aria-label={`${title}, now: ${last.join(", ")}`} />
    </figure>
  );
}
