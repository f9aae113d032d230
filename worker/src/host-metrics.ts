/**
 * What a host counts; the only file of this package that imports prom-client. Pages are OpenMetrics, always, for the sake of exemplars; `classic` is
 * for linters, which cannot read them.
 */

import { createHistogram } from "node:perf_hooks";
import { type HostFacts, type ModelVersion, type SpanResult, spanResults } from "@switchyard/protocol";
import { EventLoopLag, type Turn } from "@switchyard/protocol/event-loop";
import { CounterMetric, type CounterSeries, HistogramMetric, type HistogramSeries, type MetricFamily } from "@switchyard/protocol/metrics";
import { type Counter, collectDefaultMetrics, Gauge, Registry, type RegistryContentType } from "prom-client";
import { systemClock } from "./clock.ts";
import type { FromRunner } from "./runner/messages.ts";

const runEdges = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Timeouts of the classes, 5 s, 60 s and a day, are among them. */
const waitEdges = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600, 86_400];
const loadEdges = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const storeEdges = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 2];
const outcomes = ["succeeded", "failed", "retry", "back", "late"] as const;
type Outcome = (typeof outcomes)[number];

/** How the host is now; asked whenever somebody reads the page. */
export interface HostNow {
  models: number;
  /** Files of the models that it holds. */
  modelBytes: number;
  tickets: number;
}

/** What is counted of one model. */
interface ModelSeries {
  run: HistogramSeries;
  queue: HistogramSeries;
  slack: HistogramSeries;
  batch: HistogramSeries;
  late: CounterSeries;
  loadsFailed: CounterSeries;
  attempts: Record<Outcome, CounterSeries>;
}

export class HostMetrics {
  readonly families: MetricFamily[] = [];
  readonly #registry = new Registry<RegistryContentType>();
  readonly #run: HistogramMetric;
  readonly #queue: HistogramMetric;
  readonly #slack: HistogramMetric;
  readonly #batch: HistogramMetric;
  readonly #load: HistogramMetric;
  readonly #roundtrip: HistogramSeries;
  readonly #attempts: CounterMetric;
  readonly #late: CounterMetric;
  readonly #loadsFailed: CounterMetric;
  readonly #locks: CounterSeries;
  readonly #troubles: CounterSeries;
  readonly #spans: CounterMetric;
  readonly #info: Gauge;
  readonly #held: { models: Gauge; modelBytes: Gauge; tickets: Gauge };
  readonly #limit: Gauge;
  readonly #lag: EventLoopLag | undefined;
  /** By model. */
  readonly #series = new Map<string, ModelSeries>();
  #now: (() => HostNow) | undefined;

  constructor(about: { version: string; host: string; classic?: boolean; processMetrics?: boolean }) {
    if (!about.classic) this.#registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    if (about.processMetrics ?? true) {
      collectDefaultMetrics({ register: this.#registry, ...EventLoopLag.promClient });
      this.#lag = new EventLoopLag(createHistogram());
      this.#lag.replaceIn(this.#registry);
    }
    this.#run = this.#histogram("switchyard_run_seconds", "Run of a batch on the device", ["model"], runEdges);
    this.#queue = this.#histogram("switchyard_job_queue_seconds", "Admission to claim", ["model"], waitEdges);
    this.#slack = this.#histogram("switchyard_job_slack_seconds", "Claim to deadline: time that was left", ["model"], [0, ...waitEdges]);
    this.#batch = this.#histogram("switchyard_batch_jobs", "Jobs in a run", ["model"], [1, 2, 4, 8, 16, 32, 64, 128]);
    this.#load = this.#histogram("switchyard_model_load_seconds", "Loading and warming a model", ["model"], loadEdges);
    this.#roundtrip = this.#histogram("switchyard_redis_roundtrip_seconds", "Round trip to the store", [], storeEdges).of();
    this.#attempts = this.#counter(
      "switchyard_attempts_total",
      "Executions by how they ended: retry will be tried again, back was given back unrun, late could not have ended in time",
      ["model", "outcome"],
    );
    this.#late = this.#counter("switchyard_runs_late_total", "Jobs whose deadline had passed when their run began; none should be", [
      "model",
    ]);
    this.#loadsFailed = this.#counter("switchyard_model_loads_failed_total", "Models that would not load", ["model"]);
    this.#locks = this.#counter("switchyard_ticket_lock_lost_total", "Ticket leases that could not be renewed", []).of();
    this.#troubles = this.#counter("switchyard_presence_lost_total", "Times this process was declared lost", []).of();
    this.#spans = this.#counter("switchyard_spans_total", "Spans by what became of them: dropped are those that too many waited before", [
      "result",
    ]);
    for (const result of spanResults) this.#spans.of({ result });
    this.#info = this.#gauge("switchyard_host_info", "1, with what the host is as labels", ["host", "device", "providers", "gpu"]);
    this.#limit = this.#gauge("switchyard_host_model_limit_bytes", "Memory that the host lends to models", []);
    this.#held = {
      models: this.#gauge("switchyard_host_models", "Models that the host holds loaded", []),
      modelBytes: this.#gauge("switchyard_host_model_bytes", "Size of the files of the models that the host holds", []),
      tickets: this.#gauge("switchyard_host_tickets", "Tickets that the host holds: queues that it serves at this moment", []),
    };
    const build = this.#gauge("switchyard_build_info", "1, with the build as labels", ["version", "host"]);
    build.set({ version: about.version, host: about.host }, 1);
  }

  #histogram(name: string, help: string, labels: string[], edges: number[]): HistogramMetric {
    const family = { name, type: "histogram", help, labels, edges } as const;
    return this.#added(family, new HistogramMetric(family, () => systemClock.nowMs() / 1_000));
  }

  #counter(name: string, help: string, labels: string[]): CounterMetric {
    const family = { name, type: "counter", help, labels } as const;
    return this.#added(family, new CounterMetric(family));
  }

  #added<Metric extends CounterMetric | HistogramMetric>(family: MetricFamily, metric: Metric): Metric {
    this.families.push(family);
    this.#registry.registerMetric(metric as unknown as Counter); // of a metric it asks its name, its type and get()
    return metric;
  }

  #gauge(name: string, help: string, labels: string[]): Gauge {
    this.families.push({ name, type: "gauge", help, labels });
    return new Gauge({ name, help, labelNames: labels, registers: [this.#registry] });
  }

  #of(version: ModelVersion | undefined): ModelSeries {
    const model = version?.model ?? "unknown";
    let series = this.#series.get(model);
    if (series === undefined) {
      const labels = { model };
      const attempts = outcomes.map((outcome) => [outcome, this.#attempts.of({ model, outcome })]);
      series = {
        run: this.#run.of(labels),
        queue: this.#queue.of(labels),
        slack: this.#slack.of(labels),
        batch: this.#batch.of(labels),
        late: this.#late.of(labels),
        loadsFailed: this.#loadsFailed.of(labels),
        attempts: Object.fromEntries(attempts) as ModelSeries["attempts"],
      };
      this.#series.set(model, series);
    }
    return series;
  }

  /** What the host is, once its runtime has said it, and where to look how it is. */
  registered(facts: Pick<HostFacts, "id" | "device" | "providers" | "gpus" | "modelMemoryMb">, now: () => HostNow): void {
    const gpu = facts.gpus.map(({ name }) => name).join(", ") || "none";
    this.#info.set({ host: facts.id, device: facts.device, providers: facts.providers.join(","), gpu }, 1);
    this.#limit.set(facts.modelMemoryMb * 1024 * 1024);
    this.#now = now;
  }

  ran(version: ModelVersion | undefined, message: FromRunner & { kind: "ran" }): void {
    const { traced } = message;
    const series = this.#of(version);
    if (message.jobs > 0) {
      series.run.observe(message.runMs / 1_000, traced?.traceId);
      series.batch.observe(message.jobs);
    }
    for (const [at, queueMs] of message.queueMs.entries())
      series.queue.observe(queueMs / 1_000, at === traced?.at ? traced.traceId : undefined); // waits are each job's own
    for (const slackMs of message.slackMs) series.slack.observe(Math.max(0, slackMs) / 1_000); // sums of histograms must not fall
    series.late.inc(message.startedLate);
    for (const [outcome, count] of Object.entries(message.outcomes)) series.attempts[outcome as Outcome].inc(count);
  }

  modelLoaded(version: ModelVersion | undefined, loadMs: number): void {
    this.#of(version);
    this.#load.of({ model: version?.model ?? "unknown" }).observe(loadMs / 1_000);
  }

  modelFailed(version: ModelVersion | undefined): void {
    this.#of(version).loadsFailed.inc();
  }

  /** Removes the series of every other model. */
  keepModels(models: ReadonlySet<string>): void {
    for (const model of this.#series.keys()) {
      if (models.has(model)) continue;
      this.#series.delete(model);
      for (const metric of [this.#run, this.#queue, this.#slack, this.#batch, this.#load]) metric.remove({ model });
      for (const metric of [this.#late, this.#loadsFailed]) metric.remove({ model });
      for (const outcome of outcomes) this.#attempts.remove({ model, outcome });
    }
  }

  /** A turn of the event loop. */
  turnTook(turn: Turn): void {
    this.#lag?.turnTook(turn);
  }

  ticketLockLost(): void {
    this.#locks.inc();
  }

  presenceLost(): void {
    this.#troubles.inc();
  }

  /** Spans that this process was to deliver to the collector. */
  spans(result: SpanResult, count: number): void {
    this.#spans.of({ result }).inc(count);
  }

  storeRoundtrip(seconds: number): void {
    this.#roundtrip.observe(seconds);
  }

  contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    const now = this.#now?.();
    if (now) {
      this.#held.models.set(now.models);
      this.#held.modelBytes.set(now.modelBytes);
      this.#held.tickets.set(now.tickets);
    }
    return this.#registry.metrics();
  }
}
