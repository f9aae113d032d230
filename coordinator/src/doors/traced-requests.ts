/**
 * A span for each request that makes or changes something, or that a caller traces: whoever only looks is not shown, or long polls and probes
 * would hide the rest. Nothing of this is there where tracing is off.
 */

import { readTraceContext, type TraceContext, traceparentOf } from "@switchyard/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { OpenSpan, Tracing } from "../ports/tracing.ts";
import type { RequestEnd } from "./request-ends.ts";
import { headerOf } from "./request-options.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Absent where tracing is off, null where this request is not traced. */
    span?: OpenSpan | null;
  }
}

const onlyLooks = new Set(["GET", "HEAD", "OPTIONS"]);

export function addTracing(app: FastifyInstance, tracing: Tracing): void {
  app.decorateRequest("span", null);
  app.addHook("onRequest", (request, reply, done) => {
    const caller = callerContext(request.headers);
    if (caller !== undefined || !onlyLooks.has(request.method)) {
      const route = request.routeOptions.url ?? "none";
      const facts = { "http.request.method": request.method, "http.route": route, "switchyard.request.id": request.id };
      request.span = tracing.request(`${request.method} ${route}`, facts, caller);
      reply.header("traceresponse", traceparentOf(request.span.context));
    }
    done();
  });
}

export function endSpan({ span }: FastifyRequest, { isGone, status }: RequestEnd): void {
  if (!span) return;
  span.add({ "http.response.status_code": status, ...(isGone && { "switchyard.client_gone": true }) });
  span.end(status >= 500 ? { detail: `answered ${status}` } : undefined);
}

/** Of HTTP's headers, or those of a gRPC call's metadata that mean the same. */
export function callerContext(headers: Readonly<Record<string, string | string[] | undefined>>): TraceContext | undefined {
  const parent = headerOf(headers, "traceparent");
  return parent === undefined ? undefined : readTraceContext(parent, headerOf(headers, "tracestate"));
}

/** What follows from a request belongs to this. */
export function traceOf(request: FastifyRequest): TraceContext | undefined {
  return request.span?.context;
}

/** What the log and a failure's body call the request by. */
export function traceIdOf(request: FastifyRequest): string {
  return request.span?.context.traceId ?? request.id;
}
