/** One screen of `switchyard top`: a head line, the models, the hosts. Pure. */

import type { HostView } from "../../job-records.ts";
import { sparkline } from "../sparkline.ts";
import { shortDuration, textTable } from "../text-table.ts";
import type { ModelRates } from "./cluster-sample.ts";

const trendWidth = 20;

export interface TopFigures {
  url: string;
  models: readonly ModelRates[];
  hosts: readonly HostView[];
  /** Jobs per second of each round so far, by model and of all. */
  trends: ReadonlyMap<string, readonly number[]>;
  totals: readonly number[];
  /** Lines for models; of more, those that do least are left out. */
  mostModels: number;
  mostHosts: number;
}

export function topText(figures: TopFigures): string {
  return [head(figures), "", models(figures), "", hosts(figures)].join("\n");
}

function head({ hosts, models, totals, url }: TopFigures): string {
  const sum = (read: (rates: ModelRates) => number): number => models.reduce((total, rates) => total + read(rates), 0);
  const states = Map.groupBy(hosts, ({ state }) => state);
  const counted = [...states].map(([state, some]) => `${some.length} ${state}`).join(", ") || "none";
  const waiting = models.some((rates) => rates.waiting !== undefined) ? `   waiting ${sum((rates) => rates.waiting ?? 0)}` : "";
  return `${url}   jobs/s ${rate(sum(({ jobsPerSecond }) => jobsPerSecond))} ${sparkline(totals, trendWidth)}   failed/s ${rate(
    sum(({ failedPerSecond }) => failedPerSecond),
  )}${waiting}   hosts ${counted}`;
}

function models({ models, mostModels, trends }: TopFigures): string {
  const shown = models.slice(0, mostModels);
  const columns = [
    { title: "MODEL" },
    { title: "JOBS/S", align: "right" as const },
    { title: "TREND" },
    { title: "FAILED/S", align: "right" as const },
    { title: "WAITING", align: "right" as const },
    { title: "QUEUE", align: "right" as const },
    { title: "RUN", align: "right" as const },
    { title: "BATCH", align: "right" as const },
  ];
  const rows = shown.map(({ batchItems, failedPerSecond, jobsPerSecond, name, queueMs, runMs, waiting }) => [
    name,
    rate(jobsPerSecond),
    sparkline(trends.get(name) ?? [], trendWidth),
    rate(failedPerSecond),
    waiting,
    shortDuration(queueMs),
    shortDuration(runMs),
    batchItems?.toFixed(1),
  ]);
  const left = models.length - shown.length;
  return textTable(columns, rows) + (left > 0 ? `\nand ${left} more that do less` : "");
}

function hosts({ hosts, mostHosts }: TopFigures): string {
  if (hosts.length === 0) return "no hosts: no worker is registered";
  const columns = [
    { title: "HOST" },
    { title: "STATE" },
    { title: "DEVICE" },
    { title: "WARM", align: "right" as const },
    { title: "HEARTBEAT", align: "right" as const },
    { title: "FAILED", align: "right" as const },
  ];
  const rows = hosts
    .slice(0, mostHosts)
    .map((host) => [
      host.id,
      host.state,
      host.device,
      host.warm.length,
      shortDuration(host.heartbeat_age_ms),
      Object.keys(host.failures ?? {}).length || undefined,
    ]);
  const left = hosts.length - rows.length;
  return textTable(columns, rows) + (left > 0 ? `\nand ${left} more` : "");
}

function rate(perSecond: number): string {
  return perSecond >= 100 ? String(Math.round(perSecond)) : perSecond.toFixed(1);
}
