/**
 * A dashboard as a table of what it asks, and the form that Grafana reads; the only file that knows Grafana's SDK. Every panel says what it shows, in
 * which unit, and asks the data source that the reader has chosen.
 */

import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

export interface Panel {
  title: string;
  /** What it shows, and what to think of it. */
  about: string;
  /** Grafana's word for it. */
  unit: "s" | "percentunit" | "reqps" | "short" | "bytes" | "Bps" | "ops";
  /** `number`: the latest values, large. Default: lines over time. */
  form?: "number";
  /** `legend` in Grafana's template form; `exemplars`: dots that lead to traces. */
  queries: readonly { expr: string; legend: string; exemplars?: true }[];
}

export interface Board {
  /** Ends its address; never changed. */
  name: string;
  title: string;
  about: string;
  /** Each with the values of a label of a metric. */
  variables: readonly { name: string; label: string; metric: string }[];
  rows: readonly { title: string; panels: readonly Panel[] }[];
}

const source = { type: "prometheus", uid: "$" + "{datasource}" };
const tag = "switchyard";
const height = 8;
const widthOf = { number: 6, lines: 12 } as const;

/** Drawn over every dashboard. */
const annotations = [
  { name: "leader changed", expr: "changes(switchyard_leader[1m]) > 0", color: "purple" },
  {
    name: "new version",
    expr: "count by (version) (switchyard_build_info) unless count by (version) (switchyard_build_info offset 2m)",
    color: "blue",
  },
  { name: "host lost", expr: "max(increase(switchyard_hosts_lost_total[1m])) > 0", color: "red" },
];

/** What Grafana loads, as an object that JSON can hold. */
export function dashboardOf(board: Board): object {
  const dashboard = new DashboardBuilder(board.title)
    .uid(`switchyard-${board.name}`)
    .description(board.about)
    .tags([tag])
    .timezone("browser")
    .time({ from: "now-1h", to: "now" })
    .refresh("30s")
    .tooltip(DashboardCursorSync.Crosshair)
    .link(new DashboardLinkBuilder("Switchyard").type(DashboardLinkType.Dashboards).tags([tag]).asDropdown(true).keepTime(true))
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"));
  for (const { name, label, metric } of board.variables) {
    dashboard.withVariable(
      new QueryVariableBuilder(name)
        .label(label)
        .datasource(source)
        .query(`label_values(${metric}, ${name})`)
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .multi(true)
        .includeAll(true)
        .allValue(".*")
        .current({ text: "All", value: "$__all" }),
    );
  }
  for (const { name, expr, color } of annotations)
    dashboard.annotation(new AnnotationQueryBuilder().name(name).datasource(source).enable(true).iconColor(color).expr(expr));
  let id = 1;
  for (const { title, panels } of board.rows) {
    dashboard.withRow(new RowBuilder(title).id(id++));
    for (const panel of panels) dashboard.withPanel(builderOf(panel).id(id++));
  }
  return dashboard.build();
}

function builderOf(panel: Panel): StatBuilder | TimeseriesBuilder {
  const isNumber = panel.form === "number";
  const builder = isNumber ? new StatBuilder() : new TimeseriesBuilder().lineWidth(1).fillOpacity(10);
  builder.title(panel.title).description(panel.about).unit(panel.unit).datasource(source);
  builder.span(isNumber ? widthOf.number : widthOf.lines).height(isNumber ? height / 2 : height);
  for (const [at, { exemplars, expr, legend }] of panel.queries.entries()) {
    const query = new DataqueryBuilder()
      .refId(String.fromCharCode(65 + at))
      .expr(expr)
      .legendFormat(legend)
      .range();
    builder.withTarget(exemplars ? query.exemplar(true) : query);
  }
  return builder;
}
