/** What one coordinator counts, as series for Prometheus. Edges of the latency histograms are the usual deadlines and the budgets of waiting. */

import { defaultTimeoutMs, type ErrorCode, errors, type JobClass, jobClasses, spanResults } from "@switchyard/protocol";
import type { Turn } from "@switchyard/protocol/event-loop";
import type { CounterMetric, CounterSeries, LabelValues, MetricFamily } from "@switchyard/protocol/metrics";
import type { Metrics, Outcome } from "../ports/metrics.ts";
import type { CurrentTraceId } from "../ports/trace-ids.ts";
import { prometheusCluster } from "./prometheus-cluster.ts";
import { Kept, MetricsRegistry } from "./prometheus-registry.ts";
import { prometheusTools } from "./prometheus-tools.ts";
import { TenantLabels } from "./tenant-labels.ts";

const outcomes: readonly Outcome[] = ["succeeded", "failed", "cancelled", "expired"];

/** Refusals that admission makes; a client's own mistakes are seen in the HTTP histogram. */
const admissionReasons = (Object.keys(errors) as ErrorCode[]).filter((code) => errors[code].http === 503 || errors[code].http === 429);

/** Models whose counters start at 0. Of thousands only those in use have series, or the zeros alone would take tens of megabytes. */
const mostWithZeros = 200;

const shadowResults = ["succeeded", "failed", "skipped"] as const;
const cacheResults = ["hit", "miss", "joined"] as const;

/** Timeouts of the classes are edges, so that the share of jobs below them is exact. */
const deadlines = jobClasses.map((name) => defaultTimeoutMs[name] / 1_000);
const usualEdges = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];
const latencyEdges = [...new Set([...usualEdges, ...deadlines])].sort((left, right) => left - right);
const httpEdges = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60];
const storeEdges = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2];

export interface PrometheusMetrics extends Metrics {
  readonly contentType: string;
  /** What is declared, for those who write it down. */
  readonly families: readonly MetricFamily[];
  /** A turn of the event loop. */
  turnTook(turn: Turn): void;
  /** The exposition text. */
  text(): Promise<string>;
}

export interface PrometheusOptions {
  version: string;
  revision?: string;
  processMetrics?: boolean;
  /** For linters, see MetricsRegistry. */
  classic?: boolean;
  /** Asked where a request is answered. */
  traceId?: CurrentTraceId;
}

function seriesByOutcome(metric: CounterMetric, labels: LabelValues): Record<Outcome, CounterSeries> {
  return Object.fromEntries(outcomes.map((outcome) => [outcome, metric.of({ ...labels, outcome })])) as Record<Outcome, CounterSeries>;
}

export function prometheusMetrics(about: PrometheusOptions): PrometheusMetrics {
  const registry = new MetricsRegistry(about);
  const traceId = about.traceId ?? (() => undefined);

  const admitted = registry.counter("switchyard_jobs_admitted_total", "Jobs accepted into a queue", ["model", "class"]);
  const rejected = registry.counter("switchyard_jobs_rejected_total", "Jobs refused at admission", ["model", "class", "reason"]);
  const refusals = registry.histogram("switchyard_refusal_seconds", "From the check of the inputs to the refusal", [], storeEdges).of();
  const finished = registry.counter("switchyard_jobs_finished_total", "Jobs that reached their outcome while their model was there", [
    "model",
    "class",
    "outcome",
  ]);
  const missed = registry.counter("switchyard_deadline_missed_total", "Jobs that ended after their deadline, or because of it", [
    "model",
    "class",
  ]);
  const e2e = registry.histogram("switchyard_job_e2e_seconds", "Admission to outcome", ["model", "class"], latencyEdges);
  const queued = registry.histogram(
    "switchyard_job_wait_seconds",
    "Admission to the start of the run, seen at the end",
    ["model", "class"],
    latencyEdges,
  );
  const cacheAsked = registry.counter(
    "switchyard_cache_requests_total",
    "Requests of models with a response cache: answered from it (hit), waiting for an equal one (joined), or run (miss)",
    ["model", "result"],
  );
  const shadowed = registry.counter(
    "switchyard_shadow_requests_total",
    "Requests that were also sent to another version, by what became of that",
    ["model", "result"],
  );
  const cacheEvicted = registry.counter(
    "switchyard_cache_evicted_total",
    "Answers that gave way to newer ones before their time was over",
    ["model"],
  );
  const ofTenant = "the first 50 tenants that the process saw, the rest as other";
  const tenantFinished = registry.counter(
    "switchyard_tenant_jobs_finished_total",
    `Jobs that reached their outcome, by tenant: ${ofTenant}`,
    ["tenant", "outcome"],
  );
  const tenantRejected = registry.counter("switchyard_tenant_jobs_rejected_total", `Jobs refused at admission, by tenant: ${ofTenant}`, [
    "tenant",
  ]);
  const tenantDevice = registry.counter(
    "switchyard_tenant_device_seconds_total",
    `Device time of jobs that have ended, each its part of its batch's run, by tenant: ${ofTenant}`,
    ["tenant"],
  );
  const tenantWait = registry.counter(
    "switchyard_tenant_wait_seconds_total",
    `Admission to the start of the run, summed over jobs that were run, by tenant: ${ofTenant}`,
    ["tenant"],
  );
  const tenants = new TenantLabels();
  const cluster = prometheusCluster(registry, tenants);
  const tools = prometheusTools(registry, traceId);
  const offers = registry.counter("switchyard_tickets_offered_total", "Tickets handed to the ticket queue, or refused by it", ["accepted"]);
  const returned = registry.counter("switchyard_jobs_returned_total", "Jobs that came back from a host without an outcome", ["reason"]);
  const lost = registry.counter("switchyard_hosts_lost_total", "Hosts that stopped answering").of();
  const spans = registry.counter("switchyard_spans_total", "Spans by what became of them: dropped are those that too many waited before", [
    "result",
  ]);
  for (const result of spanResults) spans.of({ result });
  for (const accepted of ["true", "false"]) offers.of({ accepted });
  for (const reason of ["handed_late", "lost_host", "unknown_claim"]) returned.of({ reason });
  const storeUp = registry.gauge("switchyard_store_answering", "1 while the store answers, else 0");
  const roundtrip = registry.histogram("switchyard_redis_roundtrip_seconds", "Round trip to the store", [], storeEdges).of();
  const http = registry.histogram(
    "switchyard_http_request_seconds",
    "HTTP requests by route pattern",
    ["route", "method", "status"],
    httpEdges,
  );
  const grpc = registry.histogram(
    "switchyard_grpc_request_seconds",
    "gRPC calls, and messages of streams, by method",
    ["method", "code"],
    httpEdges,
  );
  const build = registry.gauge("switchyard_build_info", "1, with the build as labels", ["version", "revision"]);
  build.set({ version: about.version, revision: about.revision ?? "unknown" }, 1);
  const lag = (about.processMetrics ?? true) ? registry.addProcessMetrics() : undefined;

  const known = new Set<string>();
  /** Models whose cache was asked. */
  const cached = new Set<string>();
  const httpSeries = new Kept(
    (route) => new Kept((method) => new Kept((status: number) => http.of({ route, method, status: String(status) }))),
  );
  const grpcSeries = new Kept((method) => new Kept((code) => grpc.of({ method, code })));
  const jobSeries = new Kept(
    (model) =>
      new Kept((jobClass: JobClass) => {
        const labels = { model, class: jobClass };
        return {
          admitted: admitted.of(labels),
          missed: missed.of(labels),
          e2e: e2e.of(labels),
          queued: queued.of(labels),
          finished: seriesByOutcome(finished, labels),
        };
      }),
  );
  const tenantSeries = new Kept((tenant) => {
    return {
      rejected: tenantRejected.of({ tenant }),
      device: tenantDevice.of({ tenant }),
      wait: tenantWait.of({ tenant }),
      finished: seriesByOutcome(tenantFinished, { tenant }),
    };
  });

  function modelKnown(model: string): void {
    if (known.has(model)) return;
    known.add(model);
    if (known.size > mostWithZeros) return;
    for (const name of jobClasses) {
      admitted.of({ model, class: name });
      missed.of({ model, class: name });
      for (const outcome of outcomes) finished.of({ model, class: name, outcome });
      for (const reason of admissionReasons) rejected.of({ model, class: name, reason });
    }
    cluster.modelKnown(model);
  }

  function modelGone(model: string): void {
    if (!known.delete(model)) return;
    jobSeries.forget(model);
    for (const name of jobClasses) {
      for (const metric of [admitted, missed, e2e, queued]) metric.remove({ model, class: name });
      for (const outcome of outcomes) finished.remove({ model, class: name, outcome });
      for (const reason of Object.keys(errors)) rejected.remove({ model, class: name, reason });
    }
    for (const result of shadowResults) shadowed.remove({ model, result });
    for (const result of cacheResults) cacheAsked.remove({ model, result });
    cacheEvicted.remove({ model });
    cached.delete(model);
    cluster.modelGone(model);
  }

  const { leading, queueFigures, queueGone, hostsSeen, tenantsWaiting, storeServers } = cluster;
  return {
    ...{ leading, queueFigures, queueGone, hostsSeen, tenantsWaiting, storeServers, modelKnown, modelGone },
    ...tools,
    contentType: registry.contentType,
    families: registry.families,
    turnTook: (turn) => lag?.turnTook(turn),
    text: () => registry.text(),
    admitted: (model, jobClass) => jobSeries.of(model).of(jobClass).admitted.inc(),
    rejected(model, jobClass, reason, tenant) {
      rejected.of({ model, class: jobClass, reason }).inc();
      if (tenant !== undefined) tenantSeries.of(tenants.labelOf(tenant)).rejected.inc();
    },
    refusalTook: (seconds) => refusals.observe(seconds, traceId()),
    finished(model, jobClass, outcome, how) {
      if (model !== undefined) {
        const series = jobSeries.of(model).of(jobClass);
        series.finished[outcome].inc();
        if (how.missed) series.missed.inc();
        series.e2e.observe(how.e2eSeconds, how.traceId);
        if (how.queueSeconds !== undefined) series.queued.observe(how.queueSeconds, how.traceId);
      }
      if (how.tenant === undefined) return;
      const tenant = tenantSeries.of(tenants.labelOf(how.tenant));
      tenant.finished[outcome].inc();
      if (how.deviceSeconds) tenant.device.inc(how.deviceSeconds);
      if (how.queueSeconds) tenant.wait.inc(how.queueSeconds);
    },
    cacheAsked(model, result) {
      if (!cached.has(model)) {
        cached.add(model);
        for (const one of cacheResults) cacheAsked.of({ model, result: one });
        cacheEvicted.of({ model });
      }
      cacheAsked.of({ model, result }).inc();
    },
    cacheEvicted: (model, count) => cacheEvicted.of({ model }).inc(count),
    ticketOffered: (accepted) => offers.of({ accepted: String(accepted) }).inc(),
    jobsReturned: (reason, count) => returned.of({ reason }).inc(count),
    hostLost: () => lost.inc(),
    shadowed: (model, result) => shadowed.of({ model, result }).inc(),
    storeAnswering: (answering) => storeUp.set(answering ? 1 : 0),
    storeRoundtrip: (seconds) => roundtrip.observe(seconds),
    spans: (result, count) => spans.of({ result }).inc(count),
    httpAnswered: (route, method, status, seconds) => httpSeries.of(route).of(method).of(status).observe(seconds, traceId()),
    grpcAnswered: (method, code, seconds) => grpcSeries.of(method).of(code).observe(seconds, traceId()),
  };
}
