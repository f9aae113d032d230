/** Dashboards, rules and pages against a real Prometheus that reads a running cluster under a load in which everything happens. */

import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { addModels, Load, loadWorkerEnv, operatorKey, writeKeyFile } from "../observability/load.ts";
import { declaredSeries, foreignSeries } from "../observability/metric-names.ts";
import { seriesNames, verifyDashboards } from "../observability/verify.ts";
import { call } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import { findPrometheus, startPrometheus } from "../support/prometheus.ts";
import { emptyRepository } from "../support/timed-models.ts";
import { fixture } from "../support/tool-rig.ts";
import { until } from "../support/until.ts";

const programs = await findPrometheus();
const skip = typeof programs === "string" ? programs : false;

/** Declared, and not to be seen under this load. */
const notSeen: Readonly<Record<string, string>> = {
  switchyard_redis_replica_lag_bytes: "needs a Redis with a replica",
};

test("every panel's query returns data, every rule is evaluated, and every metric exists that anything names", { skip }, async (t) => {
  assert.ok(typeof programs !== "string");
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-observed-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const keys = path.join(folder, "keys.yaml");
  await writeKeyFile(keys);
  const toolServers = path.join(folder, "mcp-servers.json");
  await writeFile(toolServers, JSON.stringify({ mcpServers: { results: fixture() } }));
  await using models = await emptyRepository();
  await addModels(models);
  const env = { SWITCHYARD_API_KEYS: keys, SWITCHYARD_MCP_SERVERS: toolServers };
  await using cluster = await startProcesses({
    coordinators: 2,
    workers: 2,
    models: models.folder,
    env,
    workerEnv: loadWorkerEnv,
    apiKey: operatorKey,
  });
  const hosts = await call(`${cluster.url}/v1/hosts`, { headers: { authorization: `Bearer ${operatorKey}` } });
  const workers = (hosts.json() as { items: { metrics: string }[] }).items.map(({ metrics }) => metrics);
  const coordinators = cluster.coordinators.map((one) => /"metrics":"http:\/\/([^"]+)"/.exec(one.log())![1]!);
  await using prometheus = await startPrometheus(programs, { "switchyard-coordinator": coordinators, "switchyard-worker": workers });

  const load = new Load({ urls: cluster.urls, grpc: cluster.coordinators[0]!.grpc });
  await load.begin();
  const happened = [
    "job 200",
    "infer 200",
    "cached 200",
    "slow 200",
    "hopeless 503",
    "fails 200",
    "refused 503",
    "expires 200",
    "cancel 200",
    "load 200",
    "tool 200",
    "grpc OK",
  ];
  const show = (): string => `${JSON.stringify([...load.statuses])}\n${cluster.log()}\n${prometheus.log()}`;
  await until("everything to happen", async () => happened.every((what) => (load.statuses.get(what) ?? 0) > 0), { withinMs: 60_000, show });
  await cluster.workers[1]!.kill();
  const lost = async (): Promise<boolean> => {
    const pages = await Promise.all(coordinators.map(async (at) => (await call(`http://${at}/metrics`)).bytes.toString()));
    return pages.some((page) => /^switchyard_hosts_lost_total 1$/m.test(page));
  };
  await until("the loss of the host to be counted", lost, { show });
  // each rule needs two scrapes of what it is made of, and its own turn
  let verdict = await verifyDashboards(prometheus.url, { seconds: 60, rateInterval: "5s" });
  for (const lateMs = performance.now() + 40_000; verdict.problems.length > 0 && performance.now() < lateMs; ) {
    await sleep(1_000); // before the next scrape all queries answer the same
    verdict = await verifyDashboards(prometheus.url, { seconds: 60, rateInterval: "5s" });
  }
  await load.end();
  assert.deepEqual(verdict.problems, [], show());
  const { dashboards, panels, queries, rules, skipped } = verdict;
  assert.ok(dashboards === 5 && panels > 50 && queries > panels && rules > 50, JSON.stringify({ dashboards, panels, queries, rules }));
  assert.ok(skipped.length <= 3, skipped.join("\n"));
  t.diagnostic(`${dashboards} dashboards, ${panels} panels, ${queries} queries, ${rules} rules; empty and may be: ${skipped.join("; ")}`);

  const seen = await seriesNames(prometheus.url);
  const recorded = [...seen].filter((name) => name.includes(":"));
  for (const name of verdict.names) {
    const exists = seen.has(name) || notSeen[name] !== undefined || (name.startsWith("DCGM_") && foreignSeries.has(name));
    assert.ok(exists, `${name} is asked for and does not exist`);
  }
  const missing = [...declaredSeries()].filter((name) => notSeen[name] === undefined && !seen.has(name) && !seen.has(`${name}_count`));
  assert.deepEqual(missing, [], "declared, and never seen by Prometheus");
  assert.ok(recorded.length >= 20, `only ${recorded.length} series were recorded`);

  // a coordinator that stands still for a while loses the lease, and both say so until the next scrape
  for (const query of ["sum(switchyard_leader)", 'count(switchyard_queue_jobs{model="light",state="queued"})'])
    await until(`one coordinator to export ${query}`, async () => (await sumNow(prometheus.url, query)) === 1, { everyMs: 500 });
});

async function sumNow(prometheus: string, query: string): Promise<number> {
  const answer = await fetch(`${prometheus}/api/v1/query?${new URLSearchParams({ query })}`);
  const { data } = (await answer.json()) as { data: { result: { value: [number, string] }[] } };
  return Number(data.result[0]?.value[1]);
}

test("the guide and the runbooks are there", async () => {
  const pages = await readdir(fileURLToPath(new URL("../../docs/runbooks", import.meta.url)));
  assert.ok(pages.length >= 5);
  assert.match(await readFile(fileURLToPath(new URL("../../docs/observability.md", import.meta.url)), "utf8"), /runbooks/);
});
