/**
 * Failures as tools' results: one sentence that says what to do next, and the same for programs. The protocol's own errors are for calls that
 * no tool understands; what a model can mend by calling again is a result.
 */

import type { CallToolResult } from "@modelcontextprotocol/server";
import { type ErrorCode, errors, type SwitchyardError } from "@switchyard/protocol";
import { retryAfterMs } from "../problem.ts";

const errorMetaKey = "switchyard/error";

/** What to do next, where the detail does not say it. */
const advice: Partial<Record<ErrorCode, string>> = {
  model_not_found: "Call models_search to see which models there are.",
  version_not_found: "Call models_search to see which versions there are, or leave the version out.",
  model_unloaded: "Somebody unloaded this model; choose another one with models_search.",
  model_failed: "Choose another version or model with models_search.",
  signature_mismatch: "Call models_search for this model to see its inputs, and call again with arguments that match.",
  invalid_request: "Mend the arguments and call again.",
  job_not_found: "Check the job_id: jobs are known for a while after their end, and only to the tenant that submitted them.",
  result_expired: "Run the inference again.",
  forbidden: "The API key of this connection may not do this; ask whoever runs the cluster for another one.",
  expired: "Call again with a larger timeout_ms, or use job_submit and job_wait.",
  deadline_unattainable: "Call again with a larger timeout_ms, or use job_submit and job_wait.",
  idempotency_key_reused: "Use a new idempotency_key for a new request.",
  run_failed: "The model failed on these inputs; check them before calling again.",
  draining: "Call again.",
};

/** What went wrong, as the error table and the job's record say it. */
export interface Failure {
  code: string;
  detail: string;
  retryable: boolean;
  job_id?: string;
  retry_after_ms?: number;
  estimated_ms?: number;
  errors?: unknown;
}

/** @param id spreads the advice when to call again, so that refused callers do not come back together */
export function failureOf(error: SwitchyardError, id: string): Failure {
  const { code, facts } = error;
  const waitMs = retryAfterMs(error, errors[code].http, id);
  return {
    code,
    detail: error.message,
    retryable: error.retryable,
    ...(facts.jobId !== undefined && { job_id: facts.jobId }),
    ...(waitMs !== undefined && { retry_after_ms: waitMs }),
    ...(facts.estimatedMs !== undefined && { estimated_ms: Math.round(facts.estimatedMs) }),
    ...(facts.fields !== undefined && { errors: facts.fields }),
  };
}

export function failedResult(failure: Failure): CallToolResult {
  const { code, detail, retryable, retry_after_ms: waitMs } = failure;
  const next = advice[code as ErrorCode] ?? (retryable ? "Call again." : "");
  const when = waitMs === undefined ? "" : ` Wait ${waitMs} ms before.`;
  const sentence = `${detail}${/[.!?]$/.test(detail) ? "" : "."} ${next}${when}`.trim();
  return {
    isError: true,
    content: [
      { type: "text", text: sentence },
      { type: "text", text: JSON.stringify({ error: failure }) },
    ],
    _meta: { [errorMetaKey]: failure },
  };
}
