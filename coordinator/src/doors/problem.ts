/**
 * Failures as answers: RFC 9457 problem+json everywhere except /v2, whose clients compare Content-Type as a whole and want exactly
 * `{"error": "text"}`. What is not a SwitchyardError is a bug: logged with its trace id, answered without its inner text.
 */

import { type ErrorCode, errors, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Log } from "../ports/log.ts";
import { traceIdOf } from "./traced-requests.ts";

const waitByDefaultMs = 1000;

export function isV2(url: string): boolean {
  return url.startsWith("/v2") && (url.length === 3 || url[3] === "/" || url[3] === "?");
}

export function statusOf(code: ErrorCode, v2: boolean): number {
  const row: { http: number; httpV2?: number } = errors[code];
  return v2 ? (row.httpV2 ?? row.http) : row.http;
}

/** Up to a fifth more, by the request's id, so that refused clients do not come back together. */
function spread(ms: number, id: string): number {
  let hash = 0;
  for (let at = 0; at < id.length; at++) hash = (Math.imul(hash, 31) + id.charCodeAt(at)) >>> 0;
  return Math.ceil(ms * (1 + (hash % 1000) / 5000));
}

/** How long the client should wait before it repeats the request; undefined where repeating is not advised. */
export function retryAfterMs(error: SwitchyardError, status: number, requestId: string): number | undefined {
  const hint = error.facts.retryAfterMs;
  const mayPass = error.retryable && (status === 429 || status === 503);
  if (hint === undefined && !mayPass && error.code !== "job_not_finished") return undefined;
  return spread(hint ?? waitByDefaultMs, requestId);
}

/** The body of a failure on /v1. */
export function toProblem(error: SwitchyardError, about: { instance: string; traceId: string; retryAfterMs?: number | undefined }) {
  const { facts, code } = error;
  return {
    ...facts.extra,
    type: `urn:switchyard:problem:${code}`,
    title: errors[code].title,
    status: errors[code].http,
    detail: error.message,
    instance: about.instance,
    code,
    retryable: errors[code].retryable,
    ...(facts.jobId !== undefined && { job_id: facts.jobId }),
    ...(about.retryAfterMs !== undefined && { retry_after_ms: about.retryAfterMs }),
    ...(facts.estimatedMs !== undefined && { estimated_ms: facts.estimatedMs }),
    ...(facts.fields !== undefined && { errors: facts.fields }),
    trace_id: about.traceId,
  };
}

/** A failure of one part of a request as its problem, beside the status of the whole. `instance` names the part. */
export function problemOf(thrown: unknown, request: FastifyRequest, about: { instance: string; log: Log }) {
  const error = asSwitchyardError(thrown, request, about.log);
  const waitMs = retryAfterMs(error, errors[error.code].http, `${request.id} ${about.instance}`);
  return toProblem(error, { instance: about.instance, traceId: traceIdOf(request), retryAfterMs: waitMs });
}

export function sendError(thrown: unknown, request: FastifyRequest, reply: FastifyReply, log: Log): FastifyReply {
  const error = asSwitchyardError(thrown, request, log);
  request.span?.add({ "error.type": error.code });
  const v2 = isV2(request.url);
  const status = statusOf(error.code, v2);
  const waitMs = retryAfterMs(error, status, request.id);
  if (waitMs !== undefined) reply.header("retry-after", String(Math.ceil(waitMs / 1000)));
  if (error.facts.estimatedMs !== undefined) reply.header("estimated_ms", String(Math.round(error.facts.estimatedMs)));
  if (error.facts.replayed === true) reply.header("idempotent-replayed", "true");
  reply.removeHeader("etag").removeHeader("content-encoding");
  reply.code(status);
  if (v2) {
    reply.header("x-switchyard-error", error.code); // the body of /v2 has no place for it, nor for the job
    if (error.facts.jobId !== undefined) reply.header("x-switchyard-job", error.facts.jobId);
    return reply.header("content-type", "application/json").send(Buffer.from(JSON.stringify({ error: v2Text(error) })));
  }
  const problem = toProblem(error, { instance: request.url, traceId: traceIdOf(request), retryAfterMs: waitMs });
  return reply
    .header("content-type", "application/problem+json")
    .header("cache-control", "no-store")
    .send(Buffer.from(JSON.stringify(problem)));
}

/** Clients of other servers look for these words. */
export function v2Text(error: SwitchyardError): string {
  const unknownModel = "Request for unknown model";
  const isUnknown = error.code === "model_not_found" || error.code === "version_not_found";
  return isUnknown && !error.message.includes(unknownModel) ? `${unknownModel}: ${error.message}` : error.message;
}

function asSwitchyardError(thrown: unknown, request: FastifyRequest, log: Log): SwitchyardError {
  if (thrown instanceof SwitchyardError) return thrown;
  const status = thrown instanceof Error && "statusCode" in thrown ? Number(thrown.statusCode) : 500;
  if (status >= 400 && status < 500) return fromFramework(status, thrown as Error);
  return brokenInside(thrown, { trace_id: traceIdOf(request), method: request.method, route: request.routeOptions.url ?? "none" }, log);
}

/** What a client hears of a bug; what the log hears is all. */
export function brokenInside(thrown: unknown, about: { trace_id: string; method: string; route: string }, log: Log): SwitchyardError {
  log.error("request_failed", { ...about, error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) });
  return new SwitchyardError("internal", `Something broke inside Switchyard. Its log has the cause under trace id ${about.trace_id}`);
}

function fromFramework(status: number, thrown: Error): SwitchyardError {
  return new SwitchyardError(status === 413 ? "payload_too_large" : "invalid_request", thrown.message);
}
