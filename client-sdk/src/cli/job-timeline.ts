/** Where the time of one job went, as lines with bars: waiting, running, storing the outcome. Pure. */

import { hasEnded, type JobView } from "../job-records.ts";
import { barOf } from "./sparkline.ts";
import { shortDuration } from "./text-table.ts";

const barWidth = 30;

interface Part {
  name: string;
  ms: number;
  note: string;
}

/** `nowMs`: for a job that has not ended, by the machine that shows it. */
export function jobTimeline(view: JobView, nowMs: number): string {
  const parts = partsOf(view, nowMs).filter(({ ms }) => ms >= 0);
  const totalMs = Math.max(
    1e-3,
    parts.reduce((sum, { ms }) => sum + ms, 0),
  );
  const width = Math.max(...parts.map(({ name }) => name.length));
  let fromMs = 0;
  const lines = parts.map(({ ms, name, note }) => {
    const bar = barOf(barWidth, { from: fromMs / totalMs, to: (fromMs + ms) / totalMs });
    fromMs += ms;
    return `${name.padEnd(width)}  ${bar}  ${[shortDuration(ms), note].filter(Boolean).join(" ")}`;
  });
  return [...lines, endOf(view, nowMs)].join("\n");
}

function partsOf(view: JobView, nowMs: number): Part[] {
  const { attempt, host, timings } = view;
  const createdMs = Date.parse(view.created_at);
  const where = host === undefined ? "" : `on ${host}`;
  const earlier = attempt > 1 ? `and ${attempt - 1} earlier ${attempt === 2 ? "attempt" : "attempts"}` : "";
  if (view.cached) return [{ name: "cached", ms: timings?.total_ms ?? 0, note: "no host ran it" }];
  if (!hasEnded(view.state)) {
    if (view.started_at === undefined || view.state === "queued")
      return [{ name: "waiting", ms: Math.max(0, nowMs - createdMs), note: earlier }];
    const startedMs = Date.parse(view.started_at);
    return [
      { name: "waited", ms: startedMs - createdMs, note: earlier },
      { name: "running", ms: Math.max(0, nowMs - startedMs), note: where },
    ];
  }
  const { batch_items: items = 0, queue_ms: queueMs = 0, run_ms: runMs = 0, total_ms: totalMs = 0 } = timings ?? {};
  if (view.started_at === undefined) return [{ name: "waited", ms: totalMs, note: "" }];
  const restMs = totalMs - queueMs - runMs;
  return [
    { name: "waited", ms: queueMs, note: earlier },
    { name: "ran", ms: runMs, note: [where, items > 0 ? `in a batch of ${items}` : ""].filter(Boolean).join(" ") },
    { name: "the rest", ms: restMs, note: "read inputs, stored the outcome" },
  ];
}

function endOf({ deadline, error, finished_at: finished, state }: JobView, nowMs: number): string {
  const leftMs = Date.parse(deadline) - (finished === undefined ? nowMs : Date.parse(finished));
  const left = `${shortDuration(Math.abs(leftMs))} ${leftMs >= 0 ? "before" : "after"} its deadline`;
  const why = error === undefined ? "" : `: ${error.detail} [${error.code}]`;
  return finished === undefined ? `${state}, now ${left}` : `${state} ${left}${why}`;
}
