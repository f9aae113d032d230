/** The terms on which a job is admitted: class, timeout, order key. Pure; every figure is made here, scripts only add and compare. */

import { defaultTimeoutMs, type JobClass, type ModelConfig } from "@switchyard/protocol";

export interface JobTerms {
  class: JobClass;
  /** What is left of it. */
  timeoutMs: number;
  /** What is not. */
  spentMs: number;
  /** The order key is now + this: the latest start that still meets the deadline. */
  latestStartMs: number;
  maxAttempts: number;
}

const defaultMaxAttempts = 3;

export interface JobWishes {
  class?: JobClass;
  timeoutMs?: number;
  spentMs?: number;
  maxAttempts?: number;
}

/** Time that a request has spent counts from this share of its timeout on, and from so many milliseconds. */
const countedShare = 0.1;
const countedMs = 50;

/** `costMs`: predicted run; 0 while nothing is known. The client's wish wins over the model's configuration, that over the class's default. */
export function jobTerms(wishes: JobWishes, config: ModelConfig, costMs: number): JobTerms {
  const jobClass = wishes.class ?? config.class ?? "standard";
  const givenMs = wishes.timeoutMs ?? config.default_timeout_ms ?? defaultTimeoutMs[jobClass];
  const wholeMs = Math.max(1, Math.ceil(givenMs));
  const timeoutMs = left(wholeMs, wishes.spentMs ?? 0);
  return {
    class: jobClass,
    timeoutMs,
    spentMs: wholeMs - timeoutMs,
    latestStartMs: Math.max(0, Math.floor(timeoutMs - costMs)),
    maxAttempts: wishes.maxAttempts ?? defaultMaxAttempts,
  };
}

function left(wholeMs: number, spentMs: number): number {
  return spentMs < Math.min(countedMs, countedShare * wholeMs) ? wholeMs : Math.max(1, Math.floor(wholeMs - spentMs));
}
