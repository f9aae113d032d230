/**
 * The client's spans in an application that uses OpenTelemetry: `new Switchyard({ tracing: openTelemetry() })`. Spans go wherever the application's
 * own SDK sends them; where it has none, nothing is done. The only file that knows @opentelemetry/api.
 */

import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { ClientError } from "./client-errors.ts";
import type { ClientTracing } from "./tracing.ts";

export function openTelemetry(): ClientTracing {
  const tracer = trace.getTracer("switchyard-client");
  return {
    begin(name, facts) {
      const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes: { ...facts } });
      const headers: Record<string, string> = {};
      propagation.inject(trace.setSpan(context.active(), span), headers);
      return {
        headers,
        end(error) {
          if (error !== undefined) {
            span.setAttribute("error.type", error instanceof ClientError ? error.code : "error");
            span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
          }
          span.end();
        },
      };
    },
  };
}
