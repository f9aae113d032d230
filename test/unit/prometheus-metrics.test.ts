/** What a coordinator exports, as Prometheus reads it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultTimeoutMs } from "@switchyard/protocol";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { waitBudgets } from "../../deploy/observability/objectives.ts";
import { HostMetrics } from "../../worker/src/host-metrics.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const server = {
  ...{ server: "10.0.0.1:6379", uptimeSeconds: 60, clients: 3, rejectedConnections: 0, memoryBytes: 10, memoryLimitBytes: 100 },
  ...{ evictedKeys: 0, keys: 7, commands: 1_000, cpuSeconds: 1.5, receivedBytes: 1, sentBytes: 2 },
  ...{ appendOnlyWritten: true, replicas: 0, replicaLagBytes: undefined },
};
const ofCluster = /^switchyard_(queue_|dead_letters|hosts\{|tenant_queue_jobs|redis_(?!roundtrip))/m;

test("what is true of the cluster is exported by a coordinator while it leads, and by no other", async () => {
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  metrics.modelKnown("digits");
  metrics.queueFigures({ model: "digits", version: 1, tag: "one" }, { waiting: 3, running: 1, oldestSeconds: 2, dead: 0 });
  metrics.hostsSeen(new Map([["ready", 2]]));
  metrics.tenantsWaiting(new Map([["red", 3]]));
  metrics.storeServers([server]);
  assert.match(await metrics.text(), /^switchyard_leader 0$/m);
  assert.doesNotMatch(await metrics.text(), ofCluster);

  metrics.leading(true);
  metrics.storeServers([server]);
  const text = await metrics.text();
  for (const line of [
    "switchyard_leader 1",
    'switchyard_queue_jobs{model="digits",state="queued"} 3',
    'switchyard_hosts{state="ready"} 2',
    'switchyard_hosts{state="lost"} 0',
    'switchyard_tenant_queue_jobs{tenant="red"} 3',
    'switchyard_redis_memory_used_bytes{server="10.0.0.1:6379"} 10',
    'switchyard_redis_commands_total{server="10.0.0.1:6379"} 1000',
  ])
    assert.ok(text.includes(`${line}\n`), line);
  metrics.queueFigures({ model: "digits", version: 1, tag: "one" }, { waiting: 0, running: 0, oldestSeconds: 0, dead: 0 });
  metrics.storeServers([{ ...server, commands: 1_500 }]);
  assert.match(await metrics.text(), /^switchyard_queue_jobs\{model="digits",state="queued"\} 0$/m);
  assert.match(await metrics.text(), /^switchyard_redis_commands_total\{.*\} 1500$/m, "as the server told it, not added up");

  metrics.leading(false);
  assert.doesNotMatch(await metrics.text(), ofCluster);
});

test("queues of one model are summed up, whatever jobs in them require", async () => {
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  metrics.leading(true);
  metrics.queueFigures({ model: "digits", version: 1, tag: "plain" }, { waiting: 3, running: 1, oldestSeconds: 2, dead: 1 });
  metrics.queueFigures({ model: "digits", version: 1, tag: "with-gpu" }, { waiting: 2, running: 0, oldestSeconds: 9, dead: 0 });
  const text = await metrics.text();
  assert.match(text, /^switchyard_queue_jobs\{model="digits",state="queued"\} 5$/m);
  assert.match(text, /^switchyard_queue_oldest_seconds\{model="digits"\} 9$/m);
});

test("a queue whose version is gone counts no more, and its model's other queues do", async () => {
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  metrics.leading(true);
  metrics.modelKnown("digits");
  metrics.queueFigures({ model: "digits", version: 1, tag: "old" }, { waiting: 3, running: 1, oldestSeconds: 90, dead: 1 });
  metrics.queueFigures({ model: "digits", version: 2, tag: "new" }, { waiting: 2, running: 0, oldestSeconds: 1, dead: 0 });
  metrics.queueGone("old");
  const text = await metrics.text();
  for (const line of [
    'switchyard_queue_jobs{model="digits",state="queued"} 2',
    'switchyard_queue_jobs{model="digits",state="running"} 0',
    'switchyard_queue_oldest_seconds{model="digits"} 1',
    'switchyard_dead_letters{model="digits"} 0',
  ])
    assert.ok(text.includes(`${line}\n`), line);
});

test("a trace's id becomes the exemplar of the bucket that its request fell into, and only there", async () => {
  let current: string | undefined = traceId;
  const metrics = prometheusMetrics({ version: "1", processMetrics: false, traceId: () => current });
  metrics.httpAnswered("/v1/jobs", "POST", 202, 0.004);
  current = undefined;
  metrics.httpAnswered("/v1/jobs", "POST", 202, 0.2);
  metrics.finished("digits", "standard", "succeeded", { e2eSeconds: 0.3, traceId });
  const text = await metrics.text();
  const traced = text.split("\n").filter((line) => line.includes(traceId));
  assert.equal(traced.length, 2, text);
  assert.match(
    traced.join("\n"),
    new RegExp(`^switchyard_http_request_seconds_bucket\\{le="0.005",.*\\} 1 # \\{trace_id="${traceId}"\\} 0.004 `, "m"),
  );
  assert.match(traced.join("\n"), /^switchyard_job_e2e_seconds_bucket\{le="0.5",/m);
  assert.match(text, /^# EOF$/m);
});

test("tenants beyond the fiftieth share one label, and nobody's label changes", async () => {
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  for (let at = 0; at < 60; at++) metrics.finished("digits", "standard", "succeeded", { e2eSeconds: 1, tenant: `tenant-${at}` });
  metrics.finished("digits", "standard", "failed", { e2eSeconds: 1, tenant: "tenant-0", deviceSeconds: 0.5, queueSeconds: 0.25 });
  metrics.rejected("digits", "standard", "queue_full", "tenant-59");
  const text = await metrics.text();
  for (const line of [
    'switchyard_tenant_jobs_finished_total{tenant="other",outcome="succeeded"} 10',
    'switchyard_tenant_jobs_finished_total{tenant="tenant-0",outcome="failed"} 1',
    'switchyard_tenant_device_seconds_total{tenant="tenant-0"} 0.5',
    'switchyard_tenant_wait_seconds_total{tenant="tenant-0"} 0.25',
    'switchyard_tenant_jobs_rejected_total{tenant="other"} 1',
  ])
    assert.ok(text.includes(`${line}\n`), line);
  assert.doesNotMatch(text, /tenant-5\d/);
});

test("a job that ends when its model is gone counts for its tenant alone", async () => {
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  metrics.modelKnown("digits");
  metrics.modelGone("digits");
  metrics.finished(undefined, "standard", "expired", { e2eSeconds: 1, missed: true, tenant: "red" });
  const text = await metrics.text();
  assert.ok(text.includes('switchyard_tenant_jobs_finished_total{tenant="red",outcome="expired"} 1\n'), text);
  assert.doesNotMatch(text, /model="/);
});

test("timeouts of the classes and budgets of waiting are edges, so that the shares below them are exact", () => {
  const wanted = [...Object.values(defaultTimeoutMs).map((ms) => ms / 1_000), ...Object.values(waitBudgets)];
  const families = [
    ...prometheusMetrics({ version: "1", processMetrics: false }).families,
    ...new HostMetrics({ version: "1", host: "one", processMetrics: false }).families,
  ];
  for (const name of [
    "switchyard_job_e2e_seconds",
    "switchyard_job_wait_seconds",
    "switchyard_job_queue_seconds",
    "switchyard_job_slack_seconds",
  ]) {
    const { edges = [] } = families.find((family) => family.name === name) ?? {};
    for (const seconds of wanted) assert.ok(edges.includes(seconds), `${name} has no edge at ${seconds} s`);
  }
});

test("a claim of which nothing ran is no run and no batch", async () => {
  const metrics = new HostMetrics({ version: "1", host: "one", processMetrics: false });
  const version = { model: "digits" } as Parameters<HostMetrics["ran"]>[0];
  const claim = { kind: "ran" as const, tag: "digits", items: 0, startedLate: 0, overheadMs: 1, queueMs: [1, 2], slackMs: [1, 2] };
  metrics.ran(version, { ...claim, jobs: 0, runMs: 0, outcomes: { late: 2 } });
  metrics.ran(version, { ...claim, jobs: 1, items: 1, runMs: 4, outcomes: { late: 1, succeeded: 1 } });
  const text = await metrics.text();
  for (const line of [
    'switchyard_run_seconds_count{model="digits"} 1',
    'switchyard_run_seconds_sum{model="digits"} 0.004',
    'switchyard_batch_jobs_count{model="digits"} 1',
    'switchyard_batch_jobs_sum{model="digits"} 1',
    'switchyard_job_queue_seconds_count{model="digits"} 4',
    'switchyard_attempts_total{model="digits",outcome="late"} 3',
  ])
    assert.ok(text.includes(`${line}\n`), line);
});

test("what a host counts of a model goes when the model goes", async () => {
  const metrics = new HostMetrics({ version: "1", host: "one", processMetrics: false });
  const version = { model: "digits" } as Parameters<HostMetrics["ran"]>[0];
  const batch = { kind: "ran", tag: "digits", jobs: 2, items: 2, runMs: 3, startedLate: 0, overheadMs: 1 } as const;
  metrics.ran(version, {
    ...batch,
    queueMs: [1, 2],
    slackMs: [-20, 4_000],
    outcomes: { succeeded: 1, retry: 1 },
    traced: { at: 1, traceId },
  });
  metrics.modelFailed(version);
  const text = await metrics.text();
  for (const line of [
    'switchyard_attempts_total{model="digits",outcome="retry"} 1',
    'switchyard_attempts_total{model="digits",outcome="late"} 0',
    'switchyard_job_slack_seconds_bucket{le="0",model="digits"} 1',
    'switchyard_job_slack_seconds_sum{model="digits"} 4',
    'switchyard_model_loads_failed_total{model="digits"} 1',
  ])
    assert.ok(text.includes(`${line}\n`), line);
  assert.match(text, new RegExp(`^switchyard_run_seconds_bucket\\{le="0.005",model="digits"\\} 1 # \\{trace_id="${traceId}"\\}`, "m"));
  const waits = text.split("\n").filter((line) => line.startsWith("switchyard_job_queue_seconds_bucket") && line.includes(traceId));
  assert.equal(waits.length, 1, "a wait leads to another job's trace");
  assert.match(waits[0]!, /le="0.002"/);
  metrics.keepModels(new Set(["other"]));
  assert.doesNotMatch(await metrics.text(), /digits/);
});
