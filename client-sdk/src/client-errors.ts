/**
 * What a call of this SDK can throw, besides the reason of an aborted signal: one class with a code from the server's closed list, and
 * two for what no server said. Everything is decided from the answer alone; nothing here waits or retries.
 */

import { errors, isErrorCode, type Problem } from "@switchyard/protocol";

export interface ErrorDetails {
  /** HTTP status of the answer; absent when none came. */
  status?: number;
  retryable?: boolean;
  /** RFC 9457 body, as it came. */
  problem?: Problem;
  jobId?: string;
  /** The answer is that of an earlier request with the same key. */
  isReplay?: boolean;
  /** How long the server asks to wait before another try. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** A refusal or a failure. `code` is a word of the error table; words that this version does not know are passed on as they are. */
export class ClientError extends Error {
  override readonly name: string = "ClientError";
  readonly code: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  readonly status: number | undefined;
  readonly problem: Problem | undefined;
  readonly jobId: string | undefined;
  readonly isReplay: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryable = details.retryable ?? (isErrorCode(code) && errors[code].retryable);
    this.status = details.status;
    this.problem = details.problem;
    this.jobId = details.jobId;
    this.isReplay = details.isReplay ?? false;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** No answer came: nobody listens, or the connection broke. What was sent may have been done. */
export class ConnectionError extends ClientError {
  override readonly name = "ConnectionError";
  /** Where the answer should have come from. */
  readonly url: string;

  constructor(url: string, why: string, cause?: unknown) {
    super("connection_failed", `cannot reach ${url}: ${why}`, { retryable: true, cause });
    this.url = url;
  }
}

/** The caller's own `timeoutMs` ran out before an answer came. The job itself may still run. */
export class TimeoutError extends ClientError {
  override readonly name = "TimeoutError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("timed_out", message, { retryable: false, ...details });
  }
}

/** What an answer with a failing status says. Reads problem+json (/v1) and `{"error"}` (/v2); survives a proxy's HTML. */
export function errorFromAnswer(status: number, headers: Headers, body: string): ClientError {
  const parsed = parseObject(body);
  const wait = headers.get("retry-after");
  const details: ErrorDetails = { status };
  const retryAfterMs = numberIn(parsed, "retry_after_ms") ?? (wait !== null && /^\d+$/.test(wait) ? Number(wait) * 1000 : undefined);
  if (retryAfterMs !== undefined) details.retryAfterMs = retryAfterMs;
  if (headers.get("idempotent-replayed") === "true") details.isReplay = true;
  const jobId = parsed?.job_id ?? headers.get("x-switchyard-job");
  if (typeof jobId === "string") details.jobId = jobId;

  if (parsed !== undefined && typeof parsed.code === "string") return errorFromProblem(parsed as unknown as Problem, details);
  const code = headers.get("x-switchyard-error") ?? codeOfStatus(status);
  if (!isErrorCode(code)) details.retryable = status >= 500;
  const text = typeof parsed?.error === "string" ? parsed.error : `the server answered ${status} without saying why`;
  return new ClientError(code, text, details);
}

/** The refusal or failure that a problem tells. `details` are of the answer around it, where there is one. */
export function errorFromProblem(problem: Problem, around?: ErrorDetails): ClientError {
  const details: ErrorDetails = { status: problem.status, ...around, problem };
  if (typeof problem.retryable === "boolean") details.retryable = problem.retryable;
  if (around === undefined && problem.retry_after_ms !== undefined) details.retryAfterMs = problem.retry_after_ms;
  if (around === undefined && problem.job_id !== undefined) details.jobId = problem.job_id;
  return new ClientError(problem.code, withFields(problem), details);
}

function parseObject(body: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function numberIn(object: Record<string, unknown> | undefined, key: string): number | undefined {
  const value = object?.[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** The sentence, with the fields that it does not speak of itself. */
function withFields(problem: Problem): string {
  const detail = typeof problem.detail === "string" ? problem.detail : problem.title;
  const unsaid = (Array.isArray(problem.errors) ? problem.errors : []).filter((field) => !detail.includes(field.expected));
  if (unsaid.length === 0) return detail;
  return `${detail} (${unsaid.map((field) => `${field.pointer}: expected ${field.expected}, got ${field.got}`).join("; ")})`;
}

/** The Open Inference Protocol's errors carry no code, so its status has to do. */
function codeOfStatus(status: number): string {
  switch (status) {
    case 400:
    case 422:
      return "invalid_request";
    case 401:
      return "unauthenticated";
    case 403:
      return "forbidden";
    case 404:
      return "not_found";
    case 409:
      return "cancelled";
    case 413:
      return "payload_too_large";
    case 415:
      return "unsupported_media_type";
    case 429:
      return "rate_limited";
    case 500:
      return "internal";
    case 501:
      return "unsupported";
    case 504:
      return "expired";
    default:
      return status >= 500 ? "unavailable" : "unexpected_status";
  }
}
