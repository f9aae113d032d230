/** What the command tells its caller: an exit code of a closed list, and one sentence on standard error. */

import { ClientError, ConnectionError, TimeoutError } from "../client-errors.ts";
import type { ClientJobState } from "../job-records.ts";
import { UsageError } from "./usage-error.ts";

export { UsageError } from "./usage-error.ts";

export const exitCodes = {
  ok: 0,
  jobFailed: 1,
  usage: 2,
  refused: 3,
  notFound: 4,
  serverAway: 5,
  timedOut: 124,
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof ConnectionError) return exitCodes.serverAway;
  if (error instanceof TimeoutError) return exitCodes.timedOut;
  if (!(error instanceof ClientError)) return exitCodes.jobFailed;
  if (error.code === "expired") return exitCodes.timedOut;
  switch (error.status) {
    case 404:
    case 410:
      return exitCodes.notFound;
    case 400:
    case 401:
    case 403:
    case 405:
    case 406:
    case 413:
    case 415:
    case 422:
      return exitCodes.usage;
    case 429:
    case 502:
    case 503:
      return error.retryable ? exitCodes.refused : exitCodes.jobFailed;
    case undefined:
      return error.code === "invalid_request" ? exitCodes.usage : exitCodes.jobFailed;
    default:
      return exitCodes.jobFailed;
  }
}

/** For commands that wait for a job: how it ended. */
export function exitCodeOfState(state: ClientJobState): ExitCode {
  if (state === "expired") return exitCodes.timedOut;
  return state === "failed" || state === "cancelled" ? exitCodes.jobFailed : exitCodes.ok;
}

/** One or two lines, with what to do next where that is known. */
export function explain(error: unknown): string {
  if (error instanceof ConnectionError) {
    const away = /ECONNREFUSED/.test(error.message) ? `cannot reach ${error.url}` : error.message;
    return `${away}: is it running? start it with \`npm start\``;
  }
  if (error instanceof ClientError) {
    const hint = error.retryAfterMs === undefined ? "" : `; try again in ${Math.ceil(error.retryAfterMs / 1000)} s`;
    const job = error.jobId === undefined || error.message.includes(error.jobId) ? "" : ` (job ${error.jobId})`;
    return `${error.message}${job}${hint} [${error.code}]`;
  }
  if (error instanceof UsageError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
