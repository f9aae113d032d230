/** When a failed try is repeated, and after how long. Pure: chance and time are arguments. */

import { ClientError, ConnectionError } from "./client-errors.ts";

export interface RetryOptions {
  /** First pause; each next one doubles. Default 100 ms. */
  minDelayMs?: number;
  /** Longest pause that the SDK chooses by itself; a server's Retry-After may ask for more. Default 5,000 ms. */
  maxDelayMs?: number;
  /** How long calls without a deadline of their own are repeated, and how long a job is looked for while no server answers. Default 30,000 ms. */
  giveUpAfterMs?: number;
}

export type RetryPolicy = Required<RetryOptions>;

export function retryPolicy(options: RetryOptions | false | undefined): RetryPolicy {
  const wanted = options === false ? { giveUpAfterMs: 0 } : (options ?? {});
  return { minDelayMs: wanted.minDelayMs ?? 100, maxDelayMs: wanted.maxDelayMs ?? 5_000, giveUpAfterMs: wanted.giveUpAfterMs ?? 30_000 };
}

/** Whether another try of the same request can help: no answer, a gateway's failure, or a refusal that calls itself retryable. */
export function mayRetry(error: unknown): error is ClientError {
  if (error instanceof ConnectionError) return true;
  if (!(error instanceof ClientError) || error.status === undefined) return false;
  return error.status === 502 || ((error.status === 429 || error.status === 503) && error.retryable);
}

/** How often `infer` hands a job in again that failed with all its attempts used, while the failure calls itself retryable. */
export const furtherJobs = 2;

/**
 * Whether the refusal is a job's own end: its key finds that same job for ever, so another try is another job. A model that is not ready may also be what a coordinator
 * says that has just started, or of one that is about to go: then there is no job. Servers of the release before name none, but say when they answer for an earlier request.
 */
export function isFailedJob({ code, isReplay, jobId }: ClientError): boolean {
  if (code === "model_not_ready") return jobId !== undefined || isReplay;
  return code === "run_failed" || code === "input_lost";
}

/**
 * Pause before the next try, in milliseconds.
 *
 * @param failedTries tries so far, at least 1
 * @param chance a number in [0, 1): spreads callers over the upper half of the pause
 * @param retryAfterMs what the server asked for; never undercut
 */
export function retryDelayMs(policy: RetryPolicy, failedTries: number, chance: number, retryAfterMs?: number): number {
  const longest = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(failedTries - 1, 30));
  const chosen = (longest / 2) * (1 + chance);
  return retryAfterMs === undefined ? chosen : Math.max(chosen, retryAfterMs);
}
