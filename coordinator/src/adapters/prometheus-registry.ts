/**
 * Series for Prometheus; the only file that knows prom-client. Pages are OpenMetrics, always, because only that form carries exemplars: after one
 * such page a registry prints its counters wrongly in the classic form, so nothing may choose between them. `classic` is for linters, which
 * cannot read exemplars.
 */

import { createHistogram } from "node:perf_hooks";
import { EventLoopLag } from "@switchyard/protocol/event-loop";
import { CounterMetric, HistogramMetric, type MetricFamily } from "@switchyard/protocol/metrics";
import { type Counter, collectDefaultMetrics, Gauge, Registry, type RegistryContentType } from "prom-client";
import { systemClock } from "../clock.ts";

export class MetricsRegistry {
  readonly families: MetricFamily[] = [];
  readonly #registry = new Registry<RegistryContentType>();

  constructor(options: { classic?: boolean } = {}) {
    if (!options.classic) this.#registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
  }

  /** One without labels starts at 0. */
  counter(name: string, help: string, labels: readonly string[] = []): CounterMetric {
    const family = { name, type: "counter", help, labels } as const;
    return this.#added(family, new CounterMetric(family));
  }

  gauge(name: string, help: string, labels: readonly string[] = []): Gauge {
    this.families.push({ name, type: "gauge", help, labels });
    return new Gauge({ name, help, labelNames: [...labels], registers: [this.#registry] });
  }

  histogram(name: string, help: string, labels: readonly string[], edges: readonly number[]): HistogramMetric {
    const family = { name, type: "histogram", help, labels, edges } as const;
    return this.#added(family, new HistogramMetric(family, () => systemClock.nowMs() / 1_000));
  }

  #added<Metric extends CounterMetric | HistogramMetric>(family: MetricFamily, metric: Metric): Metric {
    this.families.push(family);
    this.#registry.registerMetric(metric as unknown as Counter); // of a metric it asks its name, its type and get()
    if (family.labels.length === 0) metric.of();
    return metric;
  }

  /** prom-client's own, of this process, but for the event loop's lag: turns are told to what is answered. */
  addProcessMetrics(): EventLoopLag {
    collectDefaultMetrics({ register: this.#registry, ...EventLoopLag.promClient });
    const lag = new EventLoopLag(createHistogram());
    lag.replaceIn(this.#registry);
    return lag;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

/**
 * For each key what `make` answers, made once. Series of several labels are kept by one label after the other: a key put together of them would have to be
 * built and hashed whenever something is counted.
 */
export class Kept<Value, Key extends number | string = string> {
  readonly #values = new Map<Key, Value>();
  readonly #make: (key: Key) => Value;

  constructor(make: (key: Key) => Value) {
    this.#make = make;
  }

  of(key: Key): Value {
    let value = this.#values.get(key);
    if (value === undefined) {
      value = this.#make(key);
      this.#values.set(key, value);
    }
    return value;
  }

  forget(key: Key): void {
    this.#values.delete(key);
  }
}
