/** What /v1 shows of the whole: who asks, figures of the last minutes, queues, one job's timeline and inputs, what bulk changes did. */

import { z } from "zod";
import { jobClasses, jobStates } from "../job-states.ts";
import { jobErrorSchema } from "./job-view.ts";

const timestamp = z.string(); // RFC 3339 UTC with milliseconds
const whole = z.number().int();

/** Who a key is to this cluster; without a key file everybody is one tenant with all scopes. */
export const callerViewSchema = z.object({
  tenant: z.string(),
  scopes: z.array(z.string()),
  key_id: z.string().optional(),
  /** Names of the only models that it may use; absent: all. */
  models: z.array(z.string()).optional(),
});

export type CallerView = z.infer<typeof callerViewSchema>;

/** Milliseconds, within a tenth of the truth; null where nothing was measured. */
const quantilesSchema = z.object({ p50: z.number().nullable(), p95: z.number().nullable(), p99: z.number().nullable() });

/** Jobs of one span of time. */
const countsSchema = z.object({
  /** Jobs that came: admitted and refused ones. */
  offered: whole,
  refused: whole,
  succeeded: whole,
  failed: whole,
  cancelled: whole,
  /** Their deadline passed. */
  expired: whole,
});

export const overviewViewSchema = z.object({
  at: timestamp,
  /** Seconds that `recent` spans, and one point of `series`. */
  window_s: z.number(),
  slot_s: z.number(),
  now: z.object({
    queued: whole,
    running: whole,
    /** Age of the oldest waiting job; 0 without one. */
    oldest_ms: z.number(),
    dead_letters: whole,
    /** Hosts by state; for operators only. */
    hosts: z.record(z.string(), whole).optional(),
  }),
  recent: countsSchema.extend({
    /** By error code. */
    refusals: z.record(z.string(), whole),
    /** From admission to outcome, of all jobs that ended. */
    total_ms: quantilesSchema,
    /** From admission to claim, of jobs that were started. */
    queue_ms: quantilesSchema,
  }),
  /** Oldest first; five minutes, in the stream only what was not sent before. */
  series: z.array(countsSchema.extend({ at: timestamp, total_ms: quantilesSchema })),
});

export type OverviewView = z.infer<typeof overviewViewSchema>;
export type QuantilesView = z.infer<typeof quantilesSchema>;

export const queueViewSchema = z.object({
  model: z.string(),
  version: whole,
  queued: whole,
  running: whole,
  oldest_ms: z.number(),
  dead_letters: whole,
  /** Hosts that may run its jobs now. */
  hosts: whole,
  /** Milliseconds until what waits has run, by what runs take; null while that is not known, or no host may run it. */
  drain_ms: z.number().nullable(),
  /** Jobs that wait, by class; with tenants for operators. */
  waiting: z.array(z.object({ class: z.enum(jobClasses), tenant: z.string().optional(), jobs: whole })),
  /** Of the model, all versions together, in the last minute. */
  recent: countsSchema.extend({ total_ms: quantilesSchema, queue_ms: quantilesSchema }),
});

export type QueueView = z.infer<typeof queueViewSchema>;

export const timelineViewSchema = z.object({
  id: z.string(),
  state: z.enum(jobStates),
  /** In order. */
  events: z.array(
    z.object({
      at: timestamp,
      /** After `attempt_failed`, `handed_back`, `host_lost` and `claim_lost` (its host never heard of it) the job waits again. */
      event: z.enum([
        ...["admitted", "retried_from", "started", "ran", "answered_from_cache"],
        ...["attempt_failed", "handed_back", "host_lost", "claim_lost"],
        ...["succeeded", "failed", "cancelled", "expired"],
      ] as const),
      /** Milliseconds since the event before. */
      after_ms: z.number(),
      attempt: whole.optional(),
      /** For operators only. */
      host: z.string().optional(),
      /** Items of the batch that it ran in, its own included. */
      batch_items: whole.optional(),
      run_ms: z.number().optional(),
      job: z.string().optional(),
      error: jobErrorSchema.optional(),
    }),
  ),
  /** Earlier attempts of which nothing is kept: of each job the last 32 are. */
  untold_attempts: whole.optional(),
});

export type TimelineView = z.infer<typeof timelineViewSchema>;

export const jobLogViewSchema = z.object({
  id: z.string(),
  /** In order. */
  lines: z.array(
    z.object({
      at: timestamp,
      level: z.enum(["info", "warn", "error"]),
      source: z.enum(["coordinator", "host"]),
      /** Who said it; for operators only. */
      host: z.string().optional(),
      /** As the logs of the processes call it. */
      event: z.string(),
      fields: z.record(z.string(), z.union([z.string(), z.number()])),
    }),
  ),
  /** Earlier attempts of which nothing is kept. */
  untold_attempts: whole.optional(),
});

export type JobLogView = z.infer<typeof jobLogViewSchema>;

/** How large a job's values are, before anybody asks for them; absent: there are none, or not any more. */
export const sizesViewSchema = z.object({ id: z.string(), inputs_bytes: whole.optional(), outputs_bytes: whole.optional() });

export type SizesView = z.infer<typeof sizesViewSchema>;

export const inputsViewSchema = z.object({
  id: z.string(),
  inputs: z.array(
    z.object({
      name: z.string(),
      datatype: z.string(),
      shape: z.array(whole),
      size_bytes: whole,
      /** Left out where all inputs together exceed 1 MiB, or JSON cannot say them. */
      data: z.array(z.unknown()).optional(),
    }),
  ),
});

export type InputsView = z.infer<typeof inputsViewSchema>;

/** One page of a bulk change; with `dry_run` nothing was changed. */
export const bulkViewSchema = z.object({
  dry_run: z.boolean(),
  /** Jobs that the filter names, on this page. */
  matched: whole,
  /** Of these, those that the change moved. */
  changed: whole,
  links: z.object({ next: z.string().optional() }),
});

export type BulkView = z.infer<typeof bulkViewSchema>;
