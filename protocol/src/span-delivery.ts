/**
 * How the spans of one process are sent, and what becomes of them: each is counted, and a collector that does not take them is told of once, not at every post. Stands
 * around an exporter of OpenTelemetry's, and beside the processor that batches for it; knows only their form, so that coordinators and hosts
 * share all of it but the calls of the libraries, which SDK users must not be made to install.
 */

import type { TracingSettings } from "./tracing-settings.ts";

/** `failed`: the collector did not take them; `dropped`: too many waited for it. */
export const spanResults = ["delivered", "failed", "dropped"] as const;
export type SpanResult = (typeof spanResults)[number];

export interface DeliveryTold {
  count(result: SpanResult, spans: number): void;
  /** Told when posts begin to fail. */
  failing(why: string): void;
  /** Told when they succeed again. */
  delivering(): void;
}

interface Exporter<Span> {
  export(spans: Span[], done: (result: { code: number; error?: Error }) => void): void;
  shutdown(): Promise<void>;
}

interface SampledSpan {
  spanContext(): { traceFlags: number };
}

const isSampled = 1;
const isSuccess = 0;

const deliverEveryMs = 1_000;
const mostWaiting = 16_384;
const deliveredAtOnce = 2_048;

/** What the libraries are to be given, in their words. */
export interface SpanSending {
  delivery: SpanDelivery;
  /** Compression the exporter reads from the environment itself. */
  exporter: { url: string; headers: Record<string, string>; timeoutMillis: number };
  batches: { scheduledDelayMillis: number; maxQueueSize: number; maxExportBatchSize: number };
  /** Of the resource: who sends. */
  attributes: Record<string, string>;
}

/** `serviceName`: where the settings have none. */
export function spanSending(
  settings: TracingSettings,
  about: { serviceName: string; version: string; instance: string },
  told: DeliveryTold,
): SpanSending {
  const { endpoint, headers, resource, serviceName = about.serviceName, timeoutMs } = settings;
  return {
    delivery: new SpanDelivery(told, mostWaiting),
    exporter: { url: endpoint, headers, timeoutMillis: timeoutMs },
    batches: { scheduledDelayMillis: deliverEveryMs, maxQueueSize: mostWaiting, maxExportBatchSize: deliveredAtOnce },
    attributes: { ...resource, "service.name": serviceName, "service.version": about.version, "service.instance.id": about.instance },
  };
}

/** To be added as a processor before the one that batches, with the same limit of what may wait. */
export class SpanDelivery {
  readonly #told: DeliveryTold;
  readonly #mostWaiting: number;
  #waiting = 0;
  #isFailing = false;

  constructor(told: DeliveryTold, mostWaiting: number) {
    this.#told = told;
    this.#mostWaiting = mostWaiting;
  }

  exporter<Span>(inner: Exporter<Span>): Exporter<Span> {
    return {
      export: (spans, done) => {
        this.#waiting -= spans.length;
        inner.export(spans, (result) => {
          this.#posted(spans.length, result);
          done(result);
        });
      },
      shutdown: () => inner.shutdown(),
    };
  }

  #posted(spans: number, { code, error }: { code: number; error?: Error }): void {
    const isDelivered = code === isSuccess;
    this.#told.count(isDelivered ? "delivered" : "failed", spans);
    if (isDelivered === !this.#isFailing) return;
    this.#isFailing = !isDelivered;
    if (isDelivered) this.#told.delivering();
    else this.#told.failing(error?.message || "the collector does not answer");
  }

  onStart(): void {}

  onEnd(span: SampledSpan): void {
    if ((span.spanContext().traceFlags & isSampled) === 0) return;
    if (this.#waiting < this.#mostWaiting) this.#waiting += 1;
    else this.#told.count("dropped", 1);
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}
