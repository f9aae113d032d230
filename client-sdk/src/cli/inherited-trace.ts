/** The trace that a shell or a program hands to the processes that it starts, as OpenTelemetry has it: TRACEPARENT and TRACESTATE. */

import { readTraceContext, traceparentOf } from "@switchyard/protocol";
import type { ClientTracing } from "../tracing.ts";

/** Undefined when there is none that is understood. */
export function inheritedTrace(env: Readonly<Record<string, string | undefined>>): ClientTracing | undefined {
  const context = readTraceContext(env.TRACEPARENT, env.TRACESTATE);
  if (context === undefined) return undefined;
  const headers: Record<string, string> = { traceparent: traceparentOf(context) };
  if (context.state !== undefined) headers.tracestate = context.state;
  return { begin: () => ({ headers, end() {} }) };
}
