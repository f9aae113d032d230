/** The closed list of errors. HTTP, gRPC and MCP doors read the same rows; a failure in Switchyard carries one of these codes. */

interface ErrorRow {
  /** Status on /v1. */
  http: number;
  /** Status on /v2 where it differs. */
  httpV2?: number;
  grpc: string;
  retryable: boolean;
  title: string;
}

export const errors = {
  invalid_request: { http: 400, grpc: "INVALID_ARGUMENT", retryable: false, title: "The request is malformed" },
  load_failed: { http: 400, grpc: "FAILED_PRECONDITION", retryable: false, title: "The model was not loaded" },
  unauthenticated: { http: 401, grpc: "UNAUTHENTICATED", retryable: false, title: "An API key is required" },
  forbidden: { http: 403, grpc: "PERMISSION_DENIED", retryable: false, title: "The API key lacks the scope" },
  consent_required: { http: 403, grpc: "PERMISSION_DENIED", retryable: false, title: "Somebody must consent to this tool first" },
  not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such resource" },
  model_not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such model" },
  version_not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such model version" },
  job_not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such job" },
  alias_not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such alias" },
  host_not_found: { http: 404, grpc: "NOT_FOUND", retryable: false, title: "No such host" },
  method_not_allowed: { http: 405, grpc: "UNIMPLEMENTED", retryable: false, title: "Method not allowed" },
  not_acceptable: { http: 406, grpc: "INVALID_ARGUMENT", retryable: false, title: "No acceptable representation" },
  job_already_ended: { http: 409, grpc: "FAILED_PRECONDITION", retryable: false, title: "The job has already ended" },
  job_not_finished: { http: 409, grpc: "FAILED_PRECONDITION", retryable: true, title: "The job has not finished" },
  job_not_succeeded: { http: 409, grpc: "FAILED_PRECONDITION", retryable: false, title: "The job did not succeed" },
  version_exists: { http: 409, httpV2: 400, grpc: "ALREADY_EXISTS", retryable: false, title: "The version exists with other content" },
  version_in_use: { http: 409, httpV2: 400, grpc: "FAILED_PRECONDITION", retryable: false, title: "The version is in use" },
  changed_meanwhile: { http: 409, grpc: "ABORTED", retryable: false, title: "Somebody else changed it meanwhile" },
  model_unloaded: { http: 409, httpV2: 400, grpc: "FAILED_PRECONDITION", retryable: false, title: "The model was unloaded by request" },
  cancelled: { http: 409, grpc: "CANCELLED", retryable: false, title: "The job was cancelled" },
  result_expired: { http: 410, grpc: "NOT_FOUND", retryable: false, title: "The result is no longer kept" },
  inputs_expired: { http: 410, grpc: "NOT_FOUND", retryable: false, title: "The job's inputs are no longer kept" },
  payload_too_large: { http: 413, grpc: "RESOURCE_EXHAUSTED", retryable: false, title: "The body is too large" },
  unsupported_media_type: { http: 415, grpc: "INVALID_ARGUMENT", retryable: false, title: "Unsupported media type" },
  unsupported_encoding: { http: 415, grpc: "INVALID_ARGUMENT", retryable: false, title: "Unsupported content encoding" },
  signature_mismatch: {
    http: 422,
    httpV2: 400,
    grpc: "INVALID_ARGUMENT",
    retryable: false,
    title: "The inputs do not match the model's signature",
  },
  idempotency_key_reused: {
    http: 422,
    httpV2: 422,
    grpc: "ALREADY_EXISTS",
    retryable: false,
    title: "The idempotency key belongs to another request",
  },
  durability_unavailable: { http: 422, grpc: "FAILED_PRECONDITION", retryable: false, title: "The store cannot give this durability" },
  rate_limited: { http: 429, grpc: "RESOURCE_EXHAUSTED", retryable: true, title: "Too many requests" },
  quota_exceeded: { http: 429, grpc: "RESOURCE_EXHAUSTED", retryable: true, title: "The quota is used up" },
  internal: { http: 500, grpc: "INTERNAL", retryable: true, title: "Internal error" },
  run_failed: { http: 500, grpc: "INTERNAL", retryable: true, title: "The model run failed" },
  input_lost: { http: 500, grpc: "INTERNAL", retryable: true, title: "The job's inputs are no longer in the store" },
  poison: { http: 500, grpc: "INTERNAL", retryable: false, title: "Hosts died while running the job" },
  tool_failed: { http: 502, grpc: "INTERNAL", retryable: false, title: "The tool's server gave no valid answer" },
  unsupported: { http: 501, grpc: "UNIMPLEMENTED", retryable: false, title: "Not supported" },
  deadline_unattainable: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The deadline cannot be met" },
  no_capable_host: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "No capable host is registered" },
  model_not_ready: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The model cannot be served now" },
  model_failed: { http: 503, grpc: "FAILED_PRECONDITION", retryable: false, title: "The model does not load" },
  tool_unavailable: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The tool's server cannot be reached; nothing was called" },
  queue_full: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The queue is full" },
  store_full: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The store is full" },
  store_unavailable: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "The store does not answer" },
  draining: { http: 503, grpc: "UNAVAILABLE", retryable: true, title: "This coordinator is shutting down" },
  expired: { http: 504, grpc: "DEADLINE_EXCEEDED", retryable: false, title: "The deadline passed before the run ended" },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errors;

/** One thing that is wrong with a request. `pointer` is a JSON pointer into the body, or the name of a header or parameter. */
export interface FieldError {
  pointer: string;
  expected: string;
  got: string;
  detail?: string;
}

export interface ErrorFacts {
  fields?: FieldError[];
  jobId?: string;
  retryAfterMs?: number;
  estimatedMs?: number;
  /** It answers an earlier request with the same idempotency key. */
  replayed?: boolean;
  /** Answers that depend on the case, such as `state` or `missing`; copied into the problem body. */
  extra?: Record<string, unknown>;
}

/** Not so where a host has frozen what it runs, or does not know the limit. */
const limitsTraces = Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")?.writable === true;

/** An expected failure. Everything else that is thrown is a bug and is answered `internal`. Only that code has a trace of calls. */
export class SwitchyardError extends Error {
  override readonly name = "SwitchyardError";
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, detail: string, facts: ErrorFacts = {}) {
    // tens of thousands a second are thrown under overload, and a trace of calls costs more than the refusal
    const { stackTraceLimit } = Error;
    const isPlain = limitsTraces && code !== "internal";
    if (isPlain) Error.stackTraceLimit = 0;
    super(detail);
    if (isPlain) Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.facts = facts;
  }

  get retryable(): boolean {
    return errors[this.code].retryable;
  }
}

export function isErrorCode(word: string): word is ErrorCode {
  return Object.hasOwn(errors, word);
}
