/** What clients say beside the tensors: time limits, class, waiting, idempotency, the form of the answer. Parsed by hand, refused by name. */

import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { type InferRequest, type JobClass, maxTimeoutMs, refuseSequence, SwitchyardError } from "@switchyard/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";

export const maxWaitSeconds = 60;
const maxKeyBytes = 255;
/** Reading a body that took longer than this counts against the time limit that the client gave. */
const countedReadingMs = 50;

export function badRequest(pointer: string, expected: string, got: unknown): SwitchyardError {
  const shown = String(got).slice(0, 64);
  return new SwitchyardError("invalid_request", `${pointer} must be ${expected}, got ${JSON.stringify(shown)}`, {
    fields: [{ pointer, expected, got: shown }],
  });
}

/** One header as text; undefined when absent. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Bytes of JSON at the start of the body; undefined when the header is absent. */
export function headerLengthOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headerOf(headers, "inference-header-content-length");
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw badRequest("Inference-Header-Content-Length", "a whole number of bytes", text);
  return Number(text);
}

interface Limits {
  timeoutMs?: number;
  class?: JobClass;
}

/**
 * Time limit and class from the protocol's parameters and the header; the smallest limit wins. `zeroIsDefault`: a header of 0 asks for
 * the class's default, as `parameters.timeout` of 0 always does; otherwise it is refused.
 */
export function limitsOf(
  request: InferRequest,
  headers: IncomingHttpHeaders,
  how: { zeroIsDefault: boolean; timeoutMs?: number | undefined },
): Limits {
  const { parameters } = request;
  refuseSequence(parameters);
  const limits: Limits = {};
  let timeoutMs = how.timeoutMs ?? Number.POSITIVE_INFINITY;
  if (parameters.timeout !== undefined) timeoutMs = Math.min(timeoutMs, microseconds(parameters.timeout));
  const header = headerOf(headers, "x-request-timeout-ms");
  if (header !== undefined) timeoutMs = Math.min(timeoutMs, headerTimeout(header, how.zeroIsDefault));
  if (timeoutMs !== Number.POSITIVE_INFINITY) limits.timeoutMs = timeoutMs;
  if (parameters.priority !== undefined) {
    const priority = whole(parameters.priority);
    if (priority === undefined) throw badRequest("/parameters/priority", "a whole number of 0 or more", parameters.priority);
    if (priority > 0) limits.class = priority === 1 ? "interactive" : priority === 2 ? "standard" : "batch";
  }
  return limits;
}

/** The stock clients send numbers as numbers or as text. */
function whole(value: string | number | boolean): number | undefined {
  const number = typeof value === "string" && /^\d{1,15}$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}

function microseconds(value: string | number | boolean): number {
  const us = whole(value);
  if (us === undefined || us > maxTimeoutMs * 1000) {
    throw badRequest("/parameters/timeout", `a whole number of microseconds, at most ${maxTimeoutMs * 1000}`, value);
  }
  return us === 0 ? Number.POSITIVE_INFINITY : Math.ceil(us / 1000);
}

function headerTimeout(text: string, zeroIsDefault: boolean): number {
  const ms = whole(text);
  if (ms === undefined || ms > maxTimeoutMs || (ms === 0 && !zeroIsDefault)) {
    throw badRequest("X-Request-Timeout-Ms", `a whole number of milliseconds from ${zeroIsDefault ? 0 : 1} to ${maxTimeoutMs}`, text);
  }
  return ms === 0 ? Number.POSITIVE_INFINITY : ms;
}

/** What is left of the client's limit after its body was read. */
export function timeLeft(timeoutMs: number, reply: FastifyReply): number {
  const spentMs = reply.elapsedTime;
  return spentMs < countedReadingMs ? timeoutMs : Math.max(1, Math.floor(timeoutMs - spentMs));
}

/** The key as a structured-field string or a bare token; undefined when absent. */
export function idempotencyKeyOf(headers: IncomingHttpHeaders): string | undefined {
  const text = headerOf(headers, "idempotency-key")?.trim();
  if (text === undefined) return undefined;
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(text);
  const key = quoted === null ? text : quoted[1]!.replace(/\\(["\\])/g, "$1");
  if (key === "" || Buffer.byteLength(key) > maxKeyBytes || (quoted === null && /[\s"]/.test(key))) {
    throw badRequest("Idempotency-Key", `a string of 1 to ${maxKeyBytes} bytes, quoted or a bare token`, text);
  }
  return key;
}

/** SHA-256 of what makes two requests the same request. `path` stands for the request's own where the body is a part of another one. */
export function fingerprintOf(
  request: Pick<FastifyRequest, "method" | "url" | "headers">,
  body: Uint8Array,
  path = request.url.split("?", 1)[0],
): string {
  const { headers } = request;
  const timeout = headerOf(headers, "x-request-timeout-ms") ?? "";
  const length = headerOf(headers, "inference-header-content-length") ?? "";
  return createHash("sha256").update(`${request.method}\n${path}\n${timeout}\n${length}\n`).update(body).digest("hex");
}

export interface Preference {
  /** How long to hold the call, capped; undefined when not asked. */
  waitSeconds?: number;
  respondAsync: boolean;
}

/** RFC 7240: a preference that cannot be read is ignored. */
export function preferenceOf(headers: IncomingHttpHeaders): Preference {
  const preference: Preference = { respondAsync: false };
  for (const part of (headerOf(headers, "prefer") ?? "").split(",")) {
    const wait = /^\s*wait\s*=\s*"?(\d+)"?\s*(?:;.*)?$/i.exec(part);
    if (wait !== null) preference.waitSeconds ??= Math.min(Number(wait[1]), maxWaitSeconds);
    else if (/^\s*respond-async\s*(?:;.*)?$/i.test(part)) preference.respondAsync = true;
  }
  return preference;
}

/** `?wait=25` or `?wait=25s`, in milliseconds; 0 when absent. */
export function waitMsOf(query: Record<string, unknown>): number {
  if (query.wait === undefined) return 0;
  const match = typeof query.wait === "string" ? /^(\d{1,3})s?$/.exec(query.wait) : null;
  if (match === null || Number(match[1]) > maxWaitSeconds)
    throw badRequest("wait", `whole seconds from 0 to ${maxWaitSeconds}`, query.wait);
  return Number(match[1]) * 1000;
}

/** The form that the client likes best; undefined when it accepts neither. `any` says that it does not mind. */
export function acceptedForm(header: string | undefined): "json" | "binary" | "any" | undefined {
  if (header === undefined || header.trim() === "") return "any";
  let json = -1;
  let binary = -1;
  let any = -1;
  for (const part of header.split(",")) {
    const [type, ...parameters] = part.split(";").map((word) => word.trim().toLowerCase());
    const weight = Number(parameters.find((word) => word.startsWith("q="))?.slice(2) ?? 1);
    if (type === "application/json") json = weight;
    else if (type === "application/octet-stream") binary = weight;
    else if (type === "*/*" || type === "application/*") any = Math.max(any, weight);
  }
  if (json < 0 && binary < 0) return any > 0 ? "any" : undefined;
  const best = Math.max(json, binary);
  if (best <= 0) return any > 0 ? (json === 0 ? "binary" : "json") : undefined;
  return json >= binary ? "json" : "binary";
}

/** A query's flag; absent: false. */
export function flagOf(query: unknown, name: string): boolean {
  const value = (query as Record<string, unknown>)[name];
  if (value === undefined || value === "false") return false;
  if (value === "true") return true;
  throw badRequest(name, "true or false", value);
}
