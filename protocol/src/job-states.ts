/** The life of a job. This table is the truth: docs/job-lifecycle.md and the Lua scripts are checked against it. */

export type JobState = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "expired";

export const mayBecome = {
  queued: ["running", "succeeded", "failed", "cancelled", "expired"], // succeeded: answered from a cache
  running: ["succeeded", "failed", "cancelled", "expired", "queued"], // queued: a retry, or its host died
  succeeded: [],
  failed: [],
  cancelled: [],
  expired: [],
} as const satisfies Record<JobState, readonly JobState[]>;

export const jobStates = Object.keys(mayBecome) as JobState[];

export function isTerminal(state: JobState): boolean {
  return mayBecome[state].length === 0;
}

export type JobClass = "interactive" | "standard" | "batch";

export const jobClasses: readonly JobClass[] = ["interactive", "standard", "batch"];

/**
 * What a job's admission and outcome have survived by the time that its caller is told of them: `fast` a crash of the store's process, `fsync` one
 * of its machine, `replicated` the loss of its machine.
 */
export type Durability = "fast" | "fsync" | "replicated";

export const durabilities: readonly Durability[] = ["fast", "fsync", "replicated"];

/** Those that have to be waited for. */
export type DurableTier = Exclude<Durability, "fast">;

/** What a job gets when its client names no timeout, in milliseconds. */
export const defaultTimeoutMs: Record<JobClass, number> = { interactive: 5_000, standard: 60_000, batch: 86_400_000 };

export const maxTimeoutMs = 86_400_000;

/** Share of a busy device per class; never strict, so that batch work is not starved. */
export const classWeights: Record<JobClass, number> = { interactive: 70, standard: 25, batch: 5 };
