/**
 * What doors and application count. Calls are cheap and never throw; times are seconds. Labels are bounded: models that are known,
 * classes, outcomes, error codes and route patterns, never ids.
 */

import type { ErrorCode, JobClass, JobState } from "@switchyard/protocol";

export type Outcome = Extract<JobState, "succeeded" | "failed" | "cancelled" | "expired">;

export interface Metrics {
  /** Starts the model's counters at 0; an alert on an absent series never fires. Idempotent. */
  modelKnown(model: string): void;
  /** Removes every series of the model. */
  modelGone(model: string): void;
  admitted(model: string, jobClass: JobClass): void;
  rejected(model: string, jobClass: JobClass, reason: ErrorCode): void;
  /** From the check of the inputs to the refusal. */
  refusalTook(seconds: number): void;
  /** `queueSeconds` only when the job was started. */
  finished(model: string, jobClass: JobClass, outcome: Outcome, took: { e2eSeconds: number; queueSeconds?: number }): void;
  /** One request of a model that has a response cache. `joined`: it waits for an equal one. */
  cacheAsked(model: string, result: "hit" | "miss" | "joined"): void;
  /** One request of an alias with a shadow. `skipped`: too many were under way. */
  shadowed(model: string, result: "succeeded" | "failed" | "skipped"): void;
  cacheEvicted(model: string, count: number): void;
  /** The latest figures of one queue; the series of a model are the sums over its versions. */
  queueFigures(model: string, version: number, figures: { waiting: number; running: number; oldestSeconds: number; dead: number }): void;
  /** A ticket was handed to the ticket queue, or could not be. */
  ticketOffered(accepted: boolean): void;
  /** Jobs that came back from hosts that were lost, or whose claim was unknown to its host. */
  jobsReturned(reason: "lost_host" | "unknown_claim", count: number): void;
  hostLost(): void;
  storeAnswering(answering: boolean): void;
  storeRoundtrip(seconds: number): void;
  /** `route` is the pattern, never the path as it came. */
  httpAnswered(route: string, method: string, status: number, seconds: number): void;
  /** `method` is one that the door knows, `code` the word of the status; each message of a stream counts. */
  grpcAnswered(method: string, code: string, seconds: number): void;
}
