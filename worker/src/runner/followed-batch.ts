/**
 * Batches as those see them who follow jobs: traces, and lines of the log about single attempts. Where nobody follows, none of this is made.
 * Pure; times are milliseconds of the store's clock.
 */

import { type JobError, readTraceWord } from "@switchyard/protocol";
import type { ClaimedJob, Commit, JobResult } from "./claims.ts";
import type { TracedJob } from "./messages.ts";

/** Whose jobs are followed: those of traces that are recorded, or all of them. */
export type Following = "traced" | "all";

export interface FollowedJob extends Pick<ClaimedJob, "id" | "attempt" | "items" | "class" | "createdMs"> {
  /** A trace word (protocol trace-context). */
  trace?: string;
}

/** A batch that was claimed, and how far it is. */
export interface FollowedBatch {
  jobs: ReadonlyMap<string, FollowedJob>;
  /** Jobs that were claimed together, followed or not. */
  batchJobs: number;
  claimedMs: number;
  /** When its inputs were there, and when its outputs were. */
  beganMs: number;
  ranMs: number;
  /** When its commit was sent for the first time. */
  sentMs?: number;
}

/**
 * How an attempt ended: `retried`: another one follows; `handed_back`: nothing ran, and it waits as before; `stale`: the job was another
 * host's by then, or over.
 */
export type AttemptEnd = "succeeded" | "failed" | "expired" | "retried" | "handed_back" | "stale";

export interface SettledJob extends FollowedJob {
  end: AttemptEnd;
  error?: JobError;
}

/** Undefined when nobody follows any of its jobs. */
export function followedBatch(following: Following, claim: { jobs: readonly ClaimedJob[]; nowMs: number }): FollowedBatch | undefined {
  const followed =
    following === "all" ? claim.jobs : claim.jobs.filter(({ trace }) => trace !== undefined && readTraceWord(trace)?.isSampled);
  if (followed.length === 0) return undefined;
  const jobs = followed.map(({ attempt, createdMs, id, items, trace, ...job }): FollowedJob => {
    return { id, attempt, items, class: job.class, createdMs, ...(trace !== undefined && { trace }) };
  });
  const times = { claimedMs: claim.nowMs, beganMs: claim.nowMs, ranMs: claim.nowMs };
  return { jobs: new Map(jobs.map((job) => [job.id, job])), batchJobs: claim.jobs.length, ...times };
}

/** The first job whose trace is recorded. */
export function tracedOf(jobs: readonly ClaimedJob[]): TracedJob | undefined {
  for (const [at, { trace }] of jobs.entries()) {
    const context = trace === undefined ? undefined : readTraceWord(trace);
    if (context?.isSampled) return { at, traceId: context.traceId };
  }
  return undefined;
}

/** What became of the followed jobs of a commit; those that must be tried again are not among them. */
export function settledJobs(
  batch: FollowedBatch,
  sent: Pick<Commit, "results">,
  { committed, isRepeat }: { committed: readonly string[]; isRepeat: boolean },
): SettledJob[] {
  const settled: SettledJob[] = [];
  for (const [at, result] of sent.results.entries()) {
    const job = batch.jobs.get(result.id);
    const answer = committed[0] === "barred" ? "stale" : (committed[at] ?? "stale");
    if (!job || answer === "no_output") continue;
    // its own doing, when it was sent before and the reply was lost
    const end = endOf(result, answer === "ended" && isRepeat ? "committed" : answer);
    const error = result.outcome === "succeeded" ? undefined : result.error;
    settled.push({ ...job, end, ...(error && { error }) });
  }
  return settled;
}

function endOf({ outcome }: JobResult, answer: string): AttemptEnd {
  if (answer === "stale" || answer === "ended") return "stale";
  if (answer === "expired" || outcome === "late") return "expired";
  if (outcome === "back") return "handed_back";
  if (outcome === "retry") return answer === "failed" ? "failed" : "retried";
  return outcome;
}
