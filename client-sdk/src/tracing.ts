/** What the client asks of an application's tracing. `switchyard/opentelemetry` is OpenTelemetry's; without one nothing is done. */

export interface ClientTracing {
  /** Begins the span of one call of the client, repeats included. Must not throw. */
  begin(name: string, facts: Readonly<Record<string, string | number | boolean>>): CallSpan;
}

export interface CallSpan {
  /** Sent with every try: `traceparent`, `tracestate`. */
  readonly headers: Readonly<Record<string, string>>;
  /** `error`: what the call threw. */
  end(error?: unknown): void;
}
