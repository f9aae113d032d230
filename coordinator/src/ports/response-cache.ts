/**
 * Answers that are known already, and requests that are under way already. Owned by the queue of the model version, so that an answer never
 * outlives its content. Every step is atomic and safe to repeat. Failures are the store's own: `store_unavailable`, `store_full`.
 */

import type { NewJob } from "./job-store.ts";

/** The terms on which a job's answer may be kept and shared; absent on jobs of models that have no cache. */
export interface CacheTerms {
  /** Equal for equal requests, different for any other: model content and configuration, tenant, inputs, outputs asked for. */
  key: string;
  /** How long an answer is kept. */
  ttlMs: number;
  /** Most bytes that the answers of one queue take. */
  bytes: number;
}

/** A job with which answers are looked up. */
export type CacheableJob = NewJob & { cache: CacheTerms };

export type Asked =
  /** The job has succeeded. Its framed outputs are there when they were wished. */
  | { answer: "hit"; nowMs: number; outputs?: Uint8Array }
  /** The job is queued, and is answered with its leader, or runs by itself. */
  | { answer: "joined"; nowMs: number; leader: string }
  /** `lead`: admit it, and settle its flight when it has ended. `alone`: only admit it. `existing`: a record of that id was there before. */
  | { answer: "lead" | "alone" | "existing" };

/** The run of a leader that others may wait for. */
export interface Flight {
  model: string;
  tag: string;
  cache: CacheTerms;
  leader: string;
}

export interface ResponseCache {
  /** Looks for an answer, else for a job under way to wait for. Calls of one turn are asked together. */
  ask(job: CacheableJob, how: { outputs: boolean }): Promise<Asked>;
  /**
   * A leader has ended, or was not admitted (`abandoned`): its outcome is kept if it is a success and not too large, and its followers are
   * answered or let go. Answers who leads now, while somebody does; this coordinator then hears of that job's end.
   */
  settle(flight: Flight, how: { abandoned: boolean; matchingHosts: number; batchItems: number }): Promise<{ leader: string | undefined }>;
}
