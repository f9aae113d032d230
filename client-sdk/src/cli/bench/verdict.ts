/** What an answer is worth to a caller with a deadline. Pure. */

export const verdicts = ["in time", "late", "expired", "refused", "failed"] as const;
/**
 * `late`: a good answer, after the deadline by the caller's own clock. `expired`: the server said that the deadline passed. `refused`: the
 * server said no, with a code, and may say yes later. `failed`: anything else.
 */
export type Verdict = (typeof verdicts)[number];

export interface Heard {
  /** HTTP status; undefined when no answer came. */
  status: number | undefined;
  /** Word of the error table. */
  code?: string | undefined;
  /** Since the job was meant to be sent. */
  latencyMs: number;
  /** Undefined: any time will do. */
  deadlineMs?: number | undefined;
}

export function verdictOf({ status, code, latencyMs, deadlineMs }: Heard): Verdict {
  if (status === 200) return deadlineMs === undefined || latencyMs <= deadlineMs ? "in time" : "late";
  if (status === 504) return "expired";
  return (status === 503 || status === 429) && code !== undefined ? "refused" : "failed";
}
