/**
 * What every gRPC call has in common: who asks and whether it may, until when the answer is wanted, a client that may go away, failures as
 * statuses, and the histogram. Scopes are those of the HTTP route that asks the same.
 */

import type { EventEmitter } from "node:events";
import type { Metadata, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { errors, maxTimeoutMs, readTraceContext, SwitchyardError, type TraceContext } from "@switchyard/protocol";
import type { Caller } from "../application/caller.ts";
import type { OpenSpan, Tracing } from "../ports/tracing.ts";
import type { DoorContext } from "./door-context.ts";
import { type HeldMessages, heldBy } from "./grpc-messages.ts";
import { grpcCodeOf, grpcStatus } from "./grpc-status.ts";
import { callerFor } from "./guard.ts";
import type { Line } from "./open-calls.ts";
import { brokenInside } from "./problem.ts";
import { accessOf, grpcTwins, type MethodName, type RouteAccess } from "./route-access.ts";

export function accessOfMethod(name: MethodName): RouteAccess {
  const [method, url] = grpcTwins[name];
  return accessOf(method, url);
}

/** Headers of HTTP that mean the same in a call's metadata. */
export type CallHeaders = Record<"authorization" | "idempotency-key" | "x-request-timeout-ms", string | undefined>;

export interface GrpcCall {
  method: MethodName;
  headers: CallHeaders;
  line: Line;
  messages: HeldMessages;
  /** The span that a job of this call belongs to; only where tracing is on. */
  trace?: TraceContext;
  /** Milliseconds until the client's deadline, at most the longest that is granted; undefined without one. */
  timeLeftMs(): number | undefined;
  /** Throws `unauthenticated`, or `forbidden` for the method or the model. Only for methods that are not open. */
  callerFor(model?: string): Caller;
}

type AnyCall = Pick<ServerUnaryCall<unknown, unknown>, "metadata" | "cancelled" | "getDeadline"> & Pick<EventEmitter, "on" | "off">;

/** The first value of a key. */
export const textOf = (metadata: Metadata, key: string): string | undefined => metadata.get(key)[0]?.toString();

export function grpcCall(context: DoorContext, method: MethodName, call: AnyCall): GrpcCall {
  const { metadata } = call;
  const headers: CallHeaders = {
    authorization: textOf(metadata, "authorization"),
    "idempotency-key": textOf(metadata, "idempotency-key"),
    "x-request-timeout-ms": textOf(metadata, "x-request-timeout-ms"),
  };
  return {
    method,
    headers,
    messages: heldBy(metadata),
    line: {
      isGone: () => call.cancelled,
      onGone(heard) {
        call.on("cancelled", heard);
        return () => call.off("cancelled", heard);
      },
    },
    timeLeftMs() {
      const deadline = Number(call.getDeadline());
      if (!Number.isFinite(deadline)) return undefined;
      return Math.min(Math.max(1, deadline - context.clock.nowMs()), maxTimeoutMs);
    },
    callerFor(model) {
      const access = accessOfMethod(method);
      if (typeof access === "string") throw new Error(`${method}: its route has no guard`);
      return callerFor(context.access, access, { authorization: headers.authorization, model });
    },
  };
}

/** The client's own id if it is short and printable, else one of ours. */
export type RequestIds = (call: { headers: { "x-request-id"?: string } }) => string;

/** What handlers need to end a call. */
export class CallEnds {
  readonly context: DoorContext;
  readonly #requestIds: RequestIds;

  constructor(context: DoorContext, requestIds: RequestIds) {
    this.context = context;
    this.#requestIds = requestIds;
  }

  /** The failure as the error table has it; a bug is logged, by its trace where there is one. */
  failure(
    thrown: unknown,
    of: { method: string; metadata: Metadata; span?: OpenSpan | undefined },
  ): { error: SwitchyardError; requestId: string } {
    const given = textOf(of.metadata, "x-request-id");
    const requestId = this.#requestIds({ headers: given === undefined ? {} : { "x-request-id": given } });
    if (thrown instanceof SwitchyardError) return { error: thrown, requestId };
    const about = { trace_id: of.span?.context.traceId ?? requestId, method: "gRPC", route: of.method };
    return { error: brokenInside(thrown, about, this.context.log), requestId };
  }

  /** Counts one call, or one message of a stream, that began at `startMs` of the monotonic clock. */
  count(method: MethodName, code: string, startMs: number): void {
    this.context.metrics.grpcAnswered(method, code, (this.context.clock.monotonicMs() - startMs) / 1000);
  }
}

/** Methods that make jobs; others only look, and are not traced. */
const tracedMethods: ReadonlySet<MethodName> = new Set(["ModelInfer", "ModelStreamInfer"]);

/** Begins the span of one call, or of one message of a stream; undefined for what is not traced. */
export function callSpan(tracing: Tracing | undefined, method: MethodName, metadata: Metadata): OpenSpan | undefined {
  if (!tracing || !tracedMethods.has(method)) return undefined;
  const facts = { "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": method };
  const caller = readTraceContext(textOf(metadata, "traceparent"), textOf(metadata, "tracestate"));
  return tracing.request(`inference.GRPCInferenceService/${method}`, facts, caller);
}

/** Ends it: callers' own mistakes are no failures of this system. */
export function endCallSpan(span: OpenSpan | undefined, error?: SwitchyardError): void {
  if (!span) return;
  span.add({ "rpc.grpc.status_code": error ? grpcCodeOf(error) : "OK" });
  span.end(error && errors[error.code].http >= 500 ? { code: error.code, detail: error.message } : undefined);
}

export interface UnaryAnswer {
  message: Buffer;
  trailers?: Metadata;
}

const nothing = Buffer.alloc(0);

export type UnaryHandler = (message: Buffer, call: GrpcCall) => UnaryAnswer | Promise<UnaryAnswer>;

/** A handler as grpc-js calls it. */
export function unary(ends: CallEnds, method: MethodName, handle: UnaryHandler) {
  return async (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): Promise<void> => {
    const startMs = ends.context.clock.monotonicMs();
    const { request } = call;
    call.request = nothing; // grpc-js keeps the call until it is answered
    const messages = heldBy(call.metadata);
    messages.begin();
    const span = callSpan(ends.context.tracing, method, call.metadata);
    try {
      const asked = grpcCall(ends.context, method, call);
      if (span) asked.trace = span.context;
      const { message, trailers } = await handle(request, asked);
      answer(null, message, trailers);
      endCallSpan(span);
      ends.count(method, "OK", startMs);
    } catch (thrown) {
      const { error, requestId } = ends.failure(thrown, { method, metadata: call.metadata, span });
      answer(grpcStatus(error, requestId));
      endCallSpan(span, error);
      ends.count(method, endedBy(call, error, ends.context), startMs);
    } finally {
      messages.leave();
    }
  };
}

/** Client and server keep the same deadline, each by its own clock: a client that leaves so shortly before it has left because of it. */
const sameDeadlineMs = 100;

/** grpc-js ends calls at their deadline by itself; to the job that is a caller who went away. */
function endedBy(call: AnyCall, error: SwitchyardError, context: DoorContext): string {
  const isLate = Number(call.getDeadline()) <= context.clock.nowMs() + sameDeadlineMs;
  return call.cancelled && isLate ? "DEADLINE_EXCEEDED" : grpcCodeOf(error);
}
