/**
 * Metrics for Prometheus; the only file that knows prom-client. Served as classic text only: an OpenMetrics rendering would rename the
 * counters of the registry in place. Edges of the latency histograms are the usual deadline budgets.
 */

import { type ErrorCode, errors, jobClasses } from "@switchyard/protocol";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Metrics, Outcome } from "../ports/metrics.ts";

const outcomes: readonly Outcome[] = ["succeeded", "failed", "cancelled", "expired"];

/** Refusals that admission makes; a client's own mistakes are seen in the HTTP histogram. */
const admissionReasons = (Object.keys(errors) as ErrorCode[]).filter((code) => errors[code].http === 503 || errors[code].http === 429);

/** Models whose counters start at 0. Of thousands only those in use have series, or the zeros alone would take tens of megabytes. */
const mostWithZeros = 200;

const shadowResults = ["succeeded", "failed", "skipped"] as const;
const cacheResults = ["hit", "miss", "joined"] as const;

const latencyEdges = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];
const httpEdges = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60];
const storeEdges = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2];

export interface PrometheusMetrics extends Metrics {
  readonly contentType: string;
  /** The exposition text. */
  text(): Promise<string>;
}

export function prometheusMetrics(about: { version: string; revision?: string; processMetrics?: boolean }): PrometheusMetrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = (name: string, help: string, labelNames: string[]) => new Counter({ name, help, labelNames, registers });
  const gauge = (name: string, help: string, labelNames: string[] = []) => new Gauge({ name, help, labelNames, registers });
  const histogram = (name: string, help: string, labelNames: string[], buckets: number[]) =>
    new Histogram({ name, help, labelNames, buckets, registers });

  const admitted = counter("switchyard_jobs_admitted_total", "Jobs accepted into a queue", ["model", "class"]);
  const rejected = counter("switchyard_jobs_rejected_total", "Jobs refused at admission", ["model", "class", "reason"]);
  const refusals = histogram("switchyard_refusal_seconds", "From the check of the inputs to the refusal", [], storeEdges);
  const finished = counter("switchyard_jobs_finished_total", "Jobs that reached their outcome", ["model", "class", "outcome"]);
  const e2e = histogram("switchyard_job_e2e_seconds", "Admission to outcome", ["model", "class"], latencyEdges);
  const queued = histogram(
    "switchyard_job_wait_seconds",
    "Admission to the start of the run, seen at the end",
    ["model", "class"],
    latencyEdges,
  );
  const cacheAsked = counter(
    "switchyard_cache_requests_total",
    "Requests of models with a response cache: answered from it (hit), waiting for an equal one (joined), or run (miss)",
    ["model", "result"],
  );
  const shadowed = counter("switchyard_shadow_requests_total", "Requests that were also sent to another version, by what became of that", [
    "model",
    "result",
  ]);
  const cacheEvicted = counter("switchyard_cache_evicted_total", "Answers that gave way to newer ones before their time was over", [
    "model",
  ]);
  const queueJobs = gauge("switchyard_queue_jobs", "Jobs in the queue by state", ["model", "state"]);
  const deadLetters = gauge("switchyard_dead_letters", "Failed jobs whose inputs are kept so that they can be submitted again", ["model"]);
  const oldest = gauge("switchyard_queue_oldest_seconds", "Age of the oldest waiting job, 0 without one", ["model"]);
  const offers = counter("switchyard_tickets_offered_total", "Tickets handed to the ticket queue, or refused by it", ["accepted"]);
  const returned = counter("switchyard_jobs_returned_total", "Jobs that came back from a host without an outcome", ["reason"]);
  const lost = counter("switchyard_hosts_lost_total", "Hosts that stopped answering", []);
  for (const accepted of ["true", "false"]) offers.inc({ accepted }, 0);
  for (const reason of ["lost_host", "unknown_claim"]) returned.inc({ reason }, 0);
  const storeUp = gauge("switchyard_store_answering", "1 while the store answers, else 0");
  const roundtrip = histogram("switchyard_redis_roundtrip_seconds", "Round trip to the store", [], storeEdges);
  const http = histogram("switchyard_http_request_seconds", "HTTP requests by route pattern", ["route", "method", "status"], httpEdges);
  const grpc = histogram(
    "switchyard_grpc_request_seconds",
    "gRPC calls, and messages of streams, by method",
    ["method", "code"],
    httpEdges,
  );
  const build = gauge("switchyard_build_info", "1, with the build as labels", ["version", "revision"]);
  build.set({ version: about.version, revision: about.revision ?? "unknown" }, 1);
  if (about.processMetrics ?? true) collectDefaultMetrics({ register: registry });

  const figures = new Map<string, Map<number, Parameters<Metrics["queueFigures"]>[2]>>();
  const known = new Set<string>();
  /** Models whose cache was asked. */
  const cached = new Set<string>();
  // prom-client hashes labels on every call; a bound child per series spares the hot path that.
  const httpSeries = new Map<string, ReturnType<typeof http.labels>>();
  const grpcSeries = new Map<string, ReturnType<typeof grpc.labels>>();
  const jobSeries = new Map<string, ReturnType<typeof bindJobs>>();

  function bindJobs(model: string, jobClass: string) {
    return {
      admitted: admitted.labels(model, jobClass),
      e2e: e2e.labels(model, jobClass),
      queued: queued.labels(model, jobClass),
      finished: new Map(outcomes.map((outcome) => [outcome, finished.labels(model, jobClass, outcome)])),
    };
  }

  function seriesOf(model: string, jobClass: string): ReturnType<typeof bindJobs> {
    const key = `${jobClass} ${model}`;
    let series = jobSeries.get(key);
    if (!series) {
      series = bindJobs(model, jobClass);
      jobSeries.set(key, series);
    }
    return series;
  }

  function showQueues(model: string): void {
    const total = { waiting: 0, running: 0, oldestSeconds: 0, dead: 0 };
    for (const one of figures.get(model)?.values() ?? []) {
      total.waiting += one.waiting;
      total.running += one.running;
      total.dead += one.dead;
      total.oldestSeconds = Math.max(total.oldestSeconds, one.oldestSeconds);
    }
    queueJobs.set({ model, state: "queued" }, total.waiting);
    queueJobs.set({ model, state: "running" }, total.running);
    oldest.set({ model }, total.oldestSeconds);
    deadLetters.set({ model }, total.dead);
  }

  function modelKnown(model: string): void {
    if (known.has(model)) return;
    known.add(model);
    if (known.size > mostWithZeros) return;
    for (const name of jobClasses) {
      admitted.inc({ model, class: name }, 0);
      for (const outcome of outcomes) finished.inc({ model, class: name, outcome }, 0);
      for (const reason of admissionReasons) rejected.inc({ model, class: name, reason }, 0);
    }
    showQueues(model);
  }

  function modelGone(model: string): void {
    if (!known.delete(model)) return;
    figures.delete(model);
    for (const name of jobClasses) {
      jobSeries.delete(`${name} ${model}`);
      admitted.remove({ model, class: name });
      e2e.remove({ model, class: name });
      queued.remove({ model, class: name });
      for (const outcome of outcomes) finished.remove({ model, class: name, outcome });
      for (const reason of Object.keys(errors)) rejected.remove({ model, class: name, reason });
    }
    for (const result of shadowResults) shadowed.remove({ model, result });
    for (const result of cacheResults) cacheAsked.remove({ model, result });
    cacheEvicted.remove({ model });
    cached.delete(model);
    for (const state of ["queued", "running"]) queueJobs.remove({ model, state });
    oldest.remove({ model });
    deadLetters.remove({ model });
  }

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    modelKnown,
    modelGone,
    admitted: (model, jobClass) => seriesOf(model, jobClass).admitted.inc(),
    rejected: (model, jobClass, reason) => rejected.inc({ model, class: jobClass, reason }),
    refusalTook: (seconds) => refusals.observe(seconds),
    finished(model, jobClass, outcome, took) {
      const series = seriesOf(model, jobClass);
      series.finished.get(outcome)?.inc();
      series.e2e.observe(took.e2eSeconds);
      if (took.queueSeconds !== undefined) series.queued.observe(took.queueSeconds);
    },
    cacheAsked(model, result) {
      if (!cached.has(model)) {
        cached.add(model);
        for (const one of cacheResults) cacheAsked.inc({ model, result: one }, 0);
        cacheEvicted.inc({ model }, 0);
      }
      cacheAsked.inc({ model, result });
    },
    cacheEvicted: (model, count) => cacheEvicted.inc({ model }, count),
    queueFigures(model, version, now) {
      const versions = figures.get(model) ?? new Map();
      figures.set(model, versions.set(version, now));
      showQueues(model);
    },
    ticketOffered: (accepted) => offers.inc({ accepted: String(accepted) }),
    jobsReturned: (reason, count) => returned.inc({ reason }, count),
    hostLost: () => lost.inc(),
    shadowed: (model, result) => shadowed.inc({ model, result }),
    storeAnswering: (answering) => storeUp.set(answering ? 1 : 0),
    storeRoundtrip: (seconds) => roundtrip.observe(seconds),
    httpAnswered(route, method, status, seconds) {
      const key = `${method} ${status} ${route}`;
      let series = httpSeries.get(key);
      if (series === undefined) {
        series = http.labels(route, method, String(status));
        httpSeries.set(key, series);
      }
      series.observe(seconds);
    },
    grpcAnswered(method, code, seconds) {
      const key = `${method} ${code}`;
      let series = grpcSeries.get(key);
      if (series === undefined) {
        series = grpc.labels(method, code);
        grpcSeries.set(key, series);
      }
      series.observe(seconds);
    },
  };
}
