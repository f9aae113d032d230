/** The terms on which a job is admitted: class, timeout, order key. Pure; every figure is made here, scripts only add and compare. */

import { defaultTimeoutMs, type JobClass, type ModelConfig } from "@switchyard/protocol";

export interface JobTerms {
  class: JobClass;
  timeoutMs: number;
  /** The order key is now + this: the latest start that still meets the deadline. */
  latestStartMs: number;
  maxAttempts: number;
}

const defaultMaxAttempts = 3;

export interface JobWishes {
  class?: JobClass;
  timeoutMs?: number;
  maxAttempts?: number;
}

/** `costMs`: predicted run; 0 while nothing is known. The client's wish wins over the model's configuration, that over the class's default. */
export function jobTerms(wishes: JobWishes, config: ModelConfig, costMs: number): JobTerms {
  const jobClass = wishes.class ?? config.class ?? "standard";
  const timeoutMs = wishes.timeoutMs ?? config.default_timeout_ms ?? defaultTimeoutMs[jobClass];
  return {
    class: jobClass,
    timeoutMs: Math.max(1, Math.ceil(timeoutMs)),
    latestStartMs: Math.max(0, Math.floor(timeoutMs - costMs)),
    maxAttempts: wishes.maxAttempts ?? defaultMaxAttempts,
  };
}
