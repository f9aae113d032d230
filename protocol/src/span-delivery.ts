/**
 * What becomes of the spans of one process: each is counted, and a collector that does not take them is told of once, not at every post. Stands
 * around an exporter of OpenTelemetry's, and beside the processor that batches for it; knows only their form.
 */

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
