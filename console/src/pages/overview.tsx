/** The first look: what is slow, what is refused, what waits. */

import type { OverviewView } from "@switchyard/protocol";
import { Chart } from "../chart.tsx";
import { duration, number, percent, plural } from "../format.ts";
import { overview, overviewFault } from "../live.ts";
import { hashOf } from "../route.ts";
import { Loaded, Stat, Table } from "../widgets.tsx";

export function OverviewPage() {
  return (
    <>
      <h1>Overview</h1>
      <Loaded from={{ value: overview.value, error: overviewFault.value }}>{(view) => <Figures of={view} />}</Loaded>
    </>
  );
}

function Figures({ of: { now, recent, series, slot_s: slot, window_s: window } }: { of: OverviewView }) {
  const perSecond = (count: number, seconds: number): number => count / seconds;
  const ended = recent.succeeded + recent.failed + recent.cancelled + recent.expired;
  const missed = ended === 0 ? 0 : recent.expired / ended;
  const times = series.map(({ at }) => Date.parse(at) / 1_000);
  const rates = (of: (point: (typeof series)[number]) => number): number[] => series.map((point) => perSecond(of(point), slot));
  const hosts = now.hosts;
  return (
    <>
      <dl class="stats">
        <Stat label="Offered" value={`${number(perSecond(recent.offered, window))}/s`} hint="Jobs that came in the last minute" />
        <Stat
          label="Goodput"
          value={`${number(perSecond(recent.succeeded, window))}/s`}
          tone={recent.succeeded > 0 ? "good" : undefined}
          hint="Jobs that succeeded before their deadline, in the last minute"
        />
        <Stat
          label="Deadline misses"
          value={percent(missed)}
          tone={missed > 0.01 ? "bad" : undefined}
          hint="Of the jobs that ended in the last minute"
        />
        <Stat label="Refused" value={number(recent.refused)} tone={recent.refused > 0 ? "bad" : undefined} hint="In the last minute" />
        <Stat label="p50" value={duration(recent.total_ms.p50)} hint="From admission to outcome" />
        <Stat label="p95" value={duration(recent.total_ms.p95)} />
        <Stat label="p99" value={duration(recent.total_ms.p99)} />
        <Stat label="Waiting" value={number(now.queued)} />
        <Stat label="Oldest" value={duration(now.oldest_ms)} tone={now.oldest_ms > 5_000 ? "bad" : undefined} />
        <Stat label="Running" value={number(now.running)} />
        <Stat label="Dead letters" value={number(now.dead_letters)} tone={now.dead_letters > 0 ? "bad" : undefined} />
        {hosts && (
          <Stat
            label="Hosts"
            value={number(hosts.ready ?? 0)}
            tone={(hosts.ready ?? 0) === 0 || (hosts.lost ?? 0) > 0 ? "bad" : undefined}
            hint={Object.entries(hosts)
              .map(([state, count]) => `${count} ${state}`)
              .join(", ")}
          />
        )}
      </dl>
      <div class="charts">
        <Chart
          title="Jobs a second"
          times={times}
          format={(value) => `${number(value)}/s`}
          lines={[
            { label: "offered", colour: "--blue", values: rates(({ offered }) => offered) },
            { label: "goodput", colour: "--green", values: rates(({ succeeded }) => succeeded), fill: true },
          ]}
        />
        <Chart
          title="Admission to outcome"
          times={times}
          format={duration}
          lines={[
            { label: "p50", colour: "--green", values: series.map(({ total_ms: { p50 } }) => p50) },
            { label: "p95", colour: "--amber", values: series.map(({ total_ms: { p95 } }) => p95) },
            { label: "p99", colour: "--red", values: series.map(({ total_ms: { p99 } }) => p99) },
          ]}
        />
        <Chart
          title="What went wrong, a second"
          times={times}
          format={(value) => `${number(value)}/s`}
          lines={[
            { label: "missed", colour: "--red", values: rates(({ expired }) => expired) },
            { label: "refused", colour: "--amber", values: rates(({ refused }) => refused) },
            { label: "failed", colour: "--violet", values: rates(({ failed }) => failed) },
          ]}
        />
      </div>
      <div class="columns">
        <section>
          <h2>Outcomes of the last minute</h2>
          <Table
            label="Outcomes"
            rows={(["succeeded", "failed", "cancelled", "expired"] as const).map((state) => ({ state, count: recent[state] }))}
            rowKey={({ state }) => state}
            columns={[
              { title: "outcome", cell: ({ state }) => <a href={hashOf("jobs", [], { state })}>{state}</a> },
              { title: "jobs", cell: ({ count }) => number(count), right: true },
            ]}
            empty=""
          />
        </section>
        <section>
          <h2>Refusals by reason</h2>
          <Table
            label="Refusals"
            rows={Object.entries(recent.refusals).map(([reason, count]) => ({ reason, count }))}
            rowKey={({ reason }) => reason}
            columns={[
              { title: "reason", cell: ({ reason }) => <code>{reason}</code> },
              { title: "jobs", cell: ({ count }) => number(count), right: true },
            ]}
            empty={`None in the last minute; ${plural(recent.offered, "job")} came.`}
          />
        </section>
      </div>
    </>
  );
}
