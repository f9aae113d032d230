/** What is promised over thirty days, as the share that may go wrong, and how long jobs of a class should wait at most. */

export const objectives = {
  /** Jobs that were admitted and not cancelled, and missed their deadline. */
  deadline: 0.01,
  /** Jobs that waited longer than their class should. */
  wait: 0.01,
  /** Calls that were answered with an internal error. */
  doors: 0.001,
} as const;

/** Seconds; each is an edge of `switchyard_job_wait_seconds`, so that the share is exact. */
export const waitBudgets = { interactive: 0.5, standard: 10, batch: 3600 } as const;
