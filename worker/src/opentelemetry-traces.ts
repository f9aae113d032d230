/**
 * Spans of attempts and batches by OpenTelemetry's SDK, sent to a collector by OTLP. The only file that knows these libraries; loaded when
 * tracing is on, and not otherwise. Which traces are recorded was decided where they began.
 */

import {
  type Attributes,
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
import { AlwaysOnSampler, BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import {
  type DeliveryTold,
  type ModelVersion,
  readTraceWord,
  spanSending,
  type TraceContext,
  type TracingSettings,
} from "@switchyard/protocol";
import type { SettledJob } from "./runner/followed-batch.ts";
import type { SettlementTold } from "./runner/messages.ts";

/** Jobs of the largest claim (lua/claim.lua). */
const mostLinks = 128;

interface Attempt {
  job: SettledJob;
  /** The job's own span. */
  parent: Context;
  span: Span;
}

export class OpentelemetryTraces {
  readonly #provider: TracerProvider;
  readonly #tracer: Tracer;
  readonly #host: string;

  constructor(settings: TracingSettings, about: { version: string; host: string; incarnation: string }, told: DeliveryTold) {
    this.#host = about.host;
    const { attributes, batches, delivery, exporter } = spanSending(
      settings,
      { version: about.version, instance: about.incarnation, serviceName: "switchyard-worker" },
      told,
    );
    this.#provider = new TracerProvider({
      sampler: new AlwaysOnSampler(),
      spanLimits: { linkCountLimit: mostLinks },
      resource: defaultResource().merge(resourceFromAttributes(attributes)),
      spanProcessors: [delivery, new BatchSpanProcessor({ ...batches, exporter: delivery.exporter(new OTLPTraceExporter(exporter)) })],
    });
    this.#tracer = this.#provider.getTracer("switchyard", about.version);
  }

  /**
   * Each job of the batch gets the wait and the attempt in its own trace, the attempt with the run and the commit; the batch gets a trace of
   * its own, with links to the attempts, as they have one to it.
   */
  settled(told: SettlementTold, version: ModelVersion | undefined): void {
    const { batchJobs, beganMs, claimedMs, items, jobs, ranMs, runMs, sentMs, settledMs } = told;
    const facts: Attributes = { "switchyard.model": version?.model ?? told.tag, "switchyard.host": this.#host };
    if (version) facts["switchyard.version"] = version.version;
    const attempts = jobs.flatMap((job) => this.#begin(job, claimedMs, facts));
    if (attempts.length === 0) return;
    const batch = this.#tracer.startSpan(
      "batch",
      {
        kind: SpanKind.CONSUMER,
        startTime: claimedMs,
        attributes: { ...facts, "switchyard.batch.items": items, "switchyard.batch.jobs": batchJobs, "switchyard.run_ms": runMs },
        links: attempts.map(({ span }) => ({ context: span.spanContext() })),
      },
      ROOT_CONTEXT,
    );
    const step = (name: string, [startMs, endMs]: [number, number], parent: Context): void =>
      this.#tracer.startSpan(name, { startTime: startMs }, parent).end(endMs);
    for (const { job, parent, span } of attempts) {
      const within = trace.setSpan(parent, span);
      span.addLink({ context: batch.spanContext() });
      span.setAttributes({ "switchyard.batch.items": items, "switchyard.attempt.end": job.end });
      if (runMs > 0) step("run", [beganMs, ranMs], within);
      step("commit", [sentMs, settledMs], within);
      if (job.end !== "succeeded" && job.end !== "handed_back") fail(span, job);
      span.end(settledMs);
    }
    if (runMs > 0) step("run", [beganMs, ranMs], trace.setSpan(ROOT_CONTEXT, batch));
    step("commit", [sentMs, settledMs], trace.setSpan(ROOT_CONTEXT, batch));
    if (jobs.every(({ end }) => end === "failed" || end === "retried")) batch.setStatus({ code: SpanStatusCode.ERROR });
    batch.end(settledMs);
  }

  #begin(job: SettledJob, claimedMs: number, facts: Attributes): Attempt[] {
    const context = job.trace === undefined ? undefined : readTraceWord(job.trace);
    if (!context?.isSampled) return [];
    const parent = under(context);
    const attributes = { ...facts, "switchyard.job.id": job.id, "switchyard.class": job.class };
    // when a later attempt began to wait is known to the host of the one before
    if (job.attempt <= 1)
      this.#tracer.startSpan("queue", { startTime: Math.min(job.createdMs, claimedMs), attributes }, parent).end(claimedMs);
    const options = { kind: SpanKind.CONSUMER, startTime: claimedMs, attributes: { ...attributes, "switchyard.attempt": job.attempt } };
    return [{ job, parent, span: this.#tracer.startSpan("attempt", options, parent) }];
  }

  /** Delivers what is left. */
  async close(): Promise<void> {
    await this.#provider.shutdown().catch(() => {}); // the collector is away: what was left is lost
  }
}

function under({ isSampled, spanId, state, traceId }: TraceContext): Context {
  const context: SpanContext = { traceId, spanId, traceFlags: isSampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true };
  if (state !== undefined) context.traceState = createTraceState(state);
  return trace.setSpanContext(ROOT_CONTEXT, context);
}

function fail(span: Span, { end, error }: SettledJob): void {
  span.setAttribute("error.type", error?.code ?? end);
  span.setStatus({ code: SpanStatusCode.ERROR, message: error?.detail ?? `the attempt ended as ${end}` });
}
