/**
 * Spans by OpenTelemetry's SDK, sent to a collector by OTLP. The only file that knows these libraries; loaded when tracing is on, and not
 * otherwise. Owns the ids of spans, because that of a job's span is given away at its admission and needed again at its end.
 */

import { randomBytes } from "node:crypto";
import {
  type Context,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { defaultResource, resourceFromAttributes } from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  type IdGenerator,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import {
  type DeliveryTold,
  type JobTrace,
  spanSending,
  type TraceContext,
  type TraceSampler,
  type TracingSettings,
} from "@switchyard/protocol";
import type { EndedJob, OpenSpan, SpanFacts, SpanFailure, Tracing } from "../ports/tracing.ts";

/** Random ids, and one that is given for the next span. */
class SpanIds implements IdGenerator {
  next: string | undefined;

  generateTraceId(): string {
    return randomBytes(16).toString("hex");
  }

  generateSpanId(): string {
    const given = this.next;
    this.next = undefined;
    return given ?? randomBytes(8).toString("hex");
  }
}

class RecordedSpan implements OpenSpan {
  readonly context: TraceContext;
  readonly #span: Span;

  constructor(span: Span) {
    this.#span = span;
    this.context = contextOf(span.spanContext());
  }

  add(facts: SpanFacts): void {
    this.#span.setAttributes(facts);
  }

  end(failed?: SpanFailure): void {
    if (failed) fail(this.#span, failed);
    this.#span.end();
  }
}

export class OpentelemetryTracing implements Tracing {
  readonly #ids = new SpanIds();
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;
  #current: TraceContext | undefined;

  constructor(settings: TracingSettings, about: { version: string; instance: string }, told: DeliveryTold) {
    const { attributes, batches, delivery, exporter } = spanSending(settings, { ...about, serviceName: "switchyard-coordinator" }, told);
    this.#provider = new TracerProvider({
      idGenerator: this.#ids,
      sampler: samplerOf(settings.sampler),
      resource: defaultResource().merge(resourceFromAttributes(attributes)),
      spanProcessors: [delivery, new BatchSpanProcessor({ ...batches, exporter: delivery.exporter(new OTLPTraceExporter(exporter)) })],
    });
    this.#tracer = this.#provider.getTracer("switchyard", about.version);
  }

  request(name: string, facts: SpanFacts, caller: TraceContext | undefined): OpenSpan {
    const parent = caller ? under(caller) : ROOT_CONTEXT;
    return new RecordedSpan(this.#tracer.startSpan(name, { kind: SpanKind.SERVER, attributes: facts }, parent));
  }

  step(name: string, facts: SpanFacts, parent: TraceContext): OpenSpan {
    return new RecordedSpan(this.#tracer.startSpan(name, { attributes: facts }, under(parent)));
  }

  newJob(parent: TraceContext): JobTrace {
    return { context: { ...parent, spanId: this.#ids.generateSpanId() }, parentSpanId: parent.spanId };
  }

  jobEnded({ trace: { context, parentSpanId }, ...job }: EndedJob): void {
    if (!context.isSampled) return;
    const attributes: SpanFacts = {
      "switchyard.job.id": job.id,
      "switchyard.job.state": job.state,
      "switchyard.job.attempts": job.attempt,
      "switchyard.model": job.model,
      "switchyard.class": job.class,
      "switchyard.batch.items": job.batchItems,
    };
    this.#ids.next = context.spanId;
    const parent = under({ ...context, spanId: parentSpanId });
    const span = this.#tracer.startSpan("job", { startTime: job.createdMs, attributes }, parent);
    this.#ids.next = undefined;
    if (job.state === "failed" || job.state === "expired") fail(span, job.error ?? { code: job.state, detail: `the job is ${job.state}` });
    span.end(job.finishedMs);
  }

  during(context: TraceContext | undefined, run: () => void): void {
    const before = this.#current;
    this.#current = context;
    try {
      run();
    } finally {
      this.#current = before;
    }
  }

  readonly currentTraceId = (): string | undefined => (this.#current?.isSampled ? this.#current.traceId : undefined);

  async close(): Promise<void> {
    await this.#provider.shutdown().catch(() => {}); // the collector is away: what was left is lost
  }
}

function samplerOf({ share, followsCaller }: TraceSampler): Sampler {
  const root = share >= 1 ? new AlwaysOnSampler() : share <= 0 ? new AlwaysOffSampler() : new TraceIdRatioBasedSampler(share);
  return followsCaller ? new ParentBasedSampler({ root }) : root;
}

function under({ isSampled, spanId, state, traceId }: TraceContext): Context {
  const context: SpanContext = { traceId, spanId, traceFlags: isSampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true };
  if (state !== undefined) context.traceState = createTraceState(state);
  return trace.setSpanContext(ROOT_CONTEXT, context);
}

function contextOf({ spanId, traceFlags, traceId, traceState }: SpanContext): TraceContext {
  const context: TraceContext = { traceId, spanId, isSampled: (traceFlags & TraceFlags.SAMPLED) !== 0 };
  const state = traceState?.serialize();
  if (state) context.state = state;
  return context;
}

function fail(span: Span, { code, detail }: SpanFailure): void {
  if (code !== undefined) span.setAttribute("error.type", code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: detail });
}
