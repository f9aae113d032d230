/** Dashboards, rules, runbooks and the compose file, as far as they can be judged without running anything. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";
import { parse } from "yaml";
import { z } from "zod";
import { settingNames } from "../../coordinator/src/config.ts";
import { boards } from "../../deploy/observability/dashboards.ts";
import { alertRules, ruleGroups } from "../../deploy/observability/rules.ts";
import { ownSettingWords } from "../../worker/src/config-help.ts";
import { declaredSeries, foreignSeries, namesInPage, namesInQuery } from "../observability/metric-names.ts";
import { dashboardFiles, panelsOf } from "../observability/verify.ts";
import { repositoryFiles, root } from "./source-files.ts";

const files = repositoryFiles();
const textOf = (name: string): string => files.find(({ path: file }) => file === name)?.text ?? assert.fail(`there is no ${name}`);

test("each panel has a title, a description, a unit and the data source that the reader chose", () => {
  let panels = 0;
  for (const dashboard of dashboardFiles()) {
    assert.ok(
      dashboard.templating.list.some(({ name, type }) => name === "datasource" && type === "datasource"),
      dashboard.title,
    );
    const titles = new Set<string>();
    for (const panel of panelsOf(dashboard)) {
      panels++;
      const place = `${dashboard.title} / ${panel.title}`;
      assert.ok(panel.title && !titles.has(panel.title), `${place}: one title each`);
      titles.add(panel.title);
      assert.ok((panel.description?.length ?? 0) > 10, `${place}: no description`);
      assert.ok(panel.fieldConfig?.defaults?.unit, `${place}: no unit`);
      assert.equal(panel.datasource?.uid, ["$", "{datasource}"].join(""), place);
      assert.ok(panel.targets?.length, `${place}: asks nothing`);
      for (const { expr } of panel.targets ?? [])
        assert.doesNotMatch(expr, /(rate|increase)\([^)]*\[(?!\$__rate_interval)/, `${place}: the interval is the reader's`);
    }
  }
  assert.ok(panels > 50, `only ${panels} panels`);
});

test("dashboards, rules and pages name only metrics that exist", () => {
  const recorded = ruleGroups.flatMap(({ rules }) => rules.flatMap((rule) => ("record" in rule ? [rule.record] : [])));
  const known = new Set([...declaredSeries(), ...foreignSeries, ...recorded]);
  const queries = [
    ...boards.flatMap(({ rows }) => rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries.map(({ expr }) => expr)))),
    ...dashboardFiles().flatMap(({ annotations }) => (annotations?.list ?? []).flatMap(({ expr }) => (expr === undefined ? [] : [expr]))),
    ...ruleGroups.flatMap(({ rules }) => rules.map(({ expr }) => expr)),
  ];
  const asked = new Set(queries.flatMap(namesInQuery));
  assert.ok(asked.size > 50, `only ${asked.size} names were found`);
  assert.deepEqual(
    [...asked].filter((name) => !known.has(name)),
    [],
  );
  const pages = files.filter(({ path: file }) => file.startsWith("docs/") && file.endsWith(".md"));
  const told = pages.flatMap((page) => namesInPage(page.text).map((name) => ({ name, page: page.path })));
  assert.ok(told.length > 50, `only ${told.length} names were found in pages`);
  const begins = (name: string): boolean => [...known].some((one) => one.startsWith(name));
  assert.deepEqual(
    told.filter(({ name }) => !known.has(name) && !begins(name)),
    [],
  );
});

test("each exported metric is asked for by a dashboard or a rule, or has a reason not to be", () => {
  const unasked: Readonly<Record<string, string>> = { switchyard_build_info: "drawn as an annotation, and for people" };
  const queries = boards.flatMap(({ rows }) =>
    rows.flatMap(({ panels }) => panels.flatMap((panel) => panel.queries.map(({ expr }) => expr))),
  );
  const asked = new Set([...queries, ...ruleGroups.flatMap(({ rules }) => rules.map(({ expr }) => expr))].flatMap(namesInQuery));
  const families = new Set([...declaredSeries()].map((name) => name.replace(/_(bucket|sum|count)$/, "")));
  const isAsked = (family: string): boolean => ["", "_bucket", "_sum", "_count"].some((end) => asked.has(family + end));
  assert.ok(families.size > 40, `only ${families.size} families`);
  assert.deepEqual(
    [...families].filter((family) => !isAsked(family) && unasked[family] === undefined),
    [],
  );
});

test("each alert has a runbook that names it", () => {
  assert.ok(alertRules.length >= 20);
  for (const { alert, annotations } of alertRules) {
    const [page = "", anchor] = annotations.runbook_url.split("#");
    assert.equal(anchor, alert.toLowerCase());
    assert.match(textOf(page), new RegExp(`^## ${alert}$`, "m"), `${page} has no part for ${alert}`);
    assert.ok(annotations.summary && annotations.description, alert);
  }
});

/** The part of the Compose specification that the file uses, in its exact forms: no container engine is here that would judge it. */
const duration = z.string().regex(/^(\d+(ms|s|m|h))+$/);
const serviceSchema = z.strictObject({
  image: z
    .string()
    .regex(/^[\w./-]+:[\w.-]*\d[\w.-]*$/, "an image with an exact version")
    .optional(),
  build: z.strictObject({ context: z.string(), dockerfile: z.string() }).optional(),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string().regex(/^[A-Z_]+$/), z.string()).optional(),
  volumes: z.array(z.string().regex(/^[^:]+:\/[^:]+(:ro)?$/)).optional(),
  ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/, "published on loopback only")).optional(),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.enum(["service_started", "service_healthy"]) })).optional(),
  healthcheck: z.strictObject({ test: z.array(z.string()), interval: duration, timeout: duration }).optional(),
  stop_grace_period: duration.optional(),
  restart: z.enum(["no", "always", "on-failure", "unless-stopped"]).optional(),
});
const composeSchema = z.strictObject({
  name: z.string(),
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.strictObject({})),
});
const composeFile = () => composeSchema.parse(parse(textOf("deploy/compose.yaml")));

test("the compose file names files, services and settings that exist", () => {
  const { services, volumes } = composeFile();
  assert.deepEqual(Object.keys(services).sort(), ["coordinator", "grafana", "prometheus", "redis", "worker"]);
  const settings = new Set([...settingNames, ...Object.keys(ownSettingWords)].map((name) => `SWITCHYARD_${name}`));
  let checked = 0;
  for (const [name, { build, depends_on = {}, environment = {}, image, volumes: mounts = [] }] of Object.entries(services)) {
    assert.ok(image !== undefined || build !== undefined, `${name}: an image or how to build it`);
    if (build) assert.ok(existsSync(path.join(root, "deploy", build.context, build.dockerfile)), `${name}: ${build.dockerfile}`);
    for (const [other, { condition }] of Object.entries(depends_on)) {
      assert.ok(services[other], `${name} depends on ${other}`);
      if (condition === "service_healthy") assert.ok(services[other]?.healthcheck, `${other} has no health check to wait for`);
    }
    for (const variable of Object.keys(environment)) {
      if (!variable.startsWith("SWITCHYARD_")) continue;
      checked++;
      assert.ok(settings.has(variable), `${name}: ${variable} is no setting`);
    }
    for (const mount of mounts) {
      const [from = ""] = mount.split(":");
      checked++;
      if (from.startsWith("."))
        assert.ok(existsSync(path.join(root, "deploy", from)) || from === "./keys.yaml", `${name}: there is no ${from}`);
      else assert.ok(from in volumes, `${name}: there is no volume ${from}`);
    }
  }
  assert.ok(checked > 10, `only ${checked} settings and mounts were checked`);
});

test("compose starts coordinators and workers with the flags that `up` gives them", () => {
  const { services } = composeFile();
  for (const service of ["coordinator", "worker"])
    assert.deepEqual(services[service]?.command, ["node", ...serverNodeFlags, `${service}/src/main.ts`]);
});

test("the image is made of files that exist, with all workspaces before each npm ci and the console that it built", () => {
  const text = textOf("deploy/Dockerfile");
  const copies = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from = ""]) => from.split(" "));
  assert.ok(copies.length > 10, `only ${copies.length} files were found`);
  for (const from of copies) assert.ok(existsSync(path.join(root, from)), `there is no ${from}`);
  const { workspaces } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as { workspaces: string[] };
  const beforeInstall = text.slice(0, text.indexOf("npm ci"));
  for (const folder of workspaces) assert.ok(beforeInstall.includes(`COPY ${folder}/package.json ${folder}/\n`), `npm ci misses ${folder}`);
  const [console = "", image = ""] = text.split(/^FROM packages\b/m).slice(1);
  assert.match(console, /^ AS console\n.*^RUN node console\/build\.ts$/ms);
  assert.match(image, /^COPY --from=console \/opt\/switchyard\/console\/dist console\/dist$/m);
});

test("what compose starts is what Prometheus reads and Grafana shows", () => {
  const { services } = composeFile();
  const prometheus = parse(textOf("deploy/prometheus/prometheus.yml")) as {
    rule_files: string[];
    scrape_configs: { job_name: string; dns_sd_configs?: { names: string[]; port: number }[] }[];
  };
  const portOf = (service: string): number => Number(services[service]?.environment?.SWITCHYARD_METRICS?.split(":").at(-1));
  const read = Object.fromEntries(prometheus.scrape_configs.map(({ job_name: job, dns_sd_configs: dns = [] }) => [job, dns]));
  for (const [service, beyond] of [
    ["coordinator", 0],
    ["worker", 1],
  ] as const) {
    const [found] = read[`switchyard-${service}`] ?? [];
    assert.deepEqual(found?.names, [service]);
    assert.equal(found?.port, portOf(service) + beyond, "worker n serves its page on the port + n");
  }
  const mounted = (service: string): string[] => (services[service]?.volumes ?? []).map((mount) => mount.split(":")[1] ?? "");
  for (const file of prometheus.rule_files)
    assert.ok(
      mounted("prometheus").some((folder) => file.startsWith(folder)),
      file,
    );
  const provider = parse(textOf("deploy/grafana/provisioning/dashboards/switchyard.yaml")) as {
    providers: { options: { path: string } }[];
  };
  assert.ok(mounted("grafana").includes(provider.providers[0]?.options.path ?? "none"));
  const sources = parse(textOf("deploy/grafana/provisioning/datasources/prometheus.yaml")) as { datasources: { url: string }[] };
  assert.equal(new URL(sources.datasources[0]?.url ?? "").hostname, "prometheus");
});
