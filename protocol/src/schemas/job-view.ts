/** What /v1 shows of jobs, hosts and models. Clients ignore unknown fields; fields are only ever added. */

import { z } from "zod";
import { durabilities, jobClasses, jobStates } from "../job-states.ts";

const timestamp = z.string(); // RFC 3339 UTC with milliseconds

export const timingsSchema = z.object({
  /** Admission to claim. */
  queue_ms: z.number(),
  /** The model's run, as its host measured it. */
  run_ms: z.number(),
  /** Admission to outcome. */
  total_ms: z.number(),
  /** Items in the batch that the job ran in. */
  batch_items: z.number().int(),
});

export const jobErrorSchema = z.object({ code: z.string(), detail: z.string(), retryable: z.boolean() });

export type JobError = z.infer<typeof jobErrorSchema>;

export const jobViewSchema = z.object({
  id: z.string(),
  state: z.enum(jobStates),
  model: z.string(),
  version: z.number().int(),
  class: z.enum(jobClasses),
  /** What its admission and its outcome have survived before they are told; older coordinators do not say it, and give `fast`. */
  durability: z.enum(durabilities).optional(),
  /** Executions so far, the running one included; 0 until the first starts. */
  attempt: z.number().int(),
  created_at: timestamp,
  started_at: timestamp.optional(),
  finished_at: timestamp.optional(),
  deadline: timestamp,
  timings: timingsSchema.optional(),
  /** True when no host ran it: its answer was known, or shared with an equal job. */
  cached: z.boolean().optional(),
  /** Inline Open Inference Protocol answer: only when succeeded, asked by `Prefer: wait`, and at most 1 MiB. */
  result: z.record(z.string(), z.unknown()).optional(),
  error: jobErrorSchema.optional(),
  tags: z.record(z.string(), z.string()).optional(),
  host: z.string().optional(),
  /** The job that failed and was submitted again as this one. */
  retry_of: z.string().optional(),
  /** Of the trace that it belongs to; only where tracing is on. */
  trace_id: z.string().optional(),
  links: z.object({ self: z.string(), result: z.string(), events: z.string() }),
});

export type JobView = z.infer<typeof jobViewSchema>;

export const deadLetterViewSchema = jobViewSchema.extend({
  /** Hosts that died while running the job. */
  hosts_died: z.number().int(),
  /** Whether the job can be submitted again. */
  inputs_kept: z.boolean(),
});

export type DeadLetterView = z.infer<typeof deadLetterViewSchema>;

export const requeuedViewSchema = z.object({
  /** Nothing was submitted: `requeued` and `refused` are what would become of the page, as far as its inputs are there. */
  dry_run: z.boolean().optional(),
  requeued: z.number().int(),
  refused: z.number().int(),
  /** Each has either the id of the new job, or why there is none. */
  items: z.array(z.object({ id: z.string(), retried_as: z.string().optional(), error: jobErrorSchema.optional() })),
  /** `next` goes on behind those that were refused; where the store went away or was full, it is this page again, which begins with what is left. */
  links: z.object({ next: z.string().optional() }),
});

export type RequeuedView = z.infer<typeof requeuedViewSchema>;

export const hostViewSchema = z.object({
  id: z.string(),
  incarnation: z.string(),
  state: z.enum(["ready", "draining", "lost"]),
  /** Provider, device and threads, such as `cpu/2`: hosts of one class take alike long for the same run. */
  device: z.string(),
  /** Execution providers of ONNX Runtime on this host, such as `cpu` and `cuda`. */
  providers: z.array(z.string()),
  gpus: z.array(z.object({ name: z.string(), memory_mb: z.number() })),
  /** `onnx`, and those of the servers that it forwards to. */
  frameworks: z.array(z.string()),
  cores: z.number().int(),
  memory_mb: z.number(),
  labels: z.record(z.string(), z.string()),
  /** Models that are loaded, as `model@version`. */
  warm: z.array(z.string()),
  /** Where this host serves /metrics, /livez, /readyz and /startupz. */
  metrics: z.string().optional(),
  version: z.string(),
  /** Milliseconds since its last heartbeat, by Redis time. */
  heartbeat_age_ms: z.number(),
  clock_offset_ms: z.number().optional(),
  registered_at: timestamp,
  /** Other hosts that live under the same id, which is a mistake: they are drained together, and records do not tell them apart. */
  id_shared_with: z.array(z.object({ incarnation: z.string(), metrics: z.string().optional(), registered_at: timestamp })).optional(),
  /** Models that this host could not load, with the reason. */
  failures: z.record(z.string(), z.string()).optional(),
  /** Memory that it lends to models, and an estimate of what those that are loaded take. */
  model_memory_mb: z.object({ lent: z.number(), used: z.number() }).optional(),
  /** Tickets at hand: queues from which it takes batches now. A draining host with none has finished. */
  tickets: z.number().int().optional(),
  /** By model, since it was loaded: runs, their items, the most that one may have, and the device time that they took. */
  batches: z
    .record(z.string(), z.object({ runs: z.number().int(), items: z.number().int(), max_items: z.number().int(), device_ms: z.number() }))
    .optional(),
});

export type HostView = z.infer<typeof hostViewSchema>;

export const modelViewSchema = z.object({
  model: z.string(),
  version: z.number().int(),
  /** Requests that name no version get this one, or most of them where the alias `default` shares them out. In lists of /v1; absent of the others. */
  default: z.literal(true).optional(),
  digest: z.string(),
  size_bytes: z.number(),
  /** `ready`: loaded on a host. `available`: loads on first demand. `failed`: cannot be served, see `reason`. `unloaded`: by request. `leaving`: is being removed. */
  state: z.enum(["ready", "available", "failed", "unloaded", "leaving"]),
  reason: z.string().optional(),
  /** What no registered host has of what it requires; absent when one has it all. */
  missing: z.array(z.string()).optional(),
  inputs: z.array(z.object({ name: z.string(), datatype: z.string(), shape: z.array(z.number()) })),
  outputs: z.array(z.object({ name: z.string(), datatype: z.string(), shape: z.array(z.number()) })),
  /** Whether jobs are stacked, up to how many items, and why (not). */
  batching: z.object({ max_items: z.number().int(), reason: z.string() }).optional(),
  /** Jobs that wait. */
  queued: z.number().int().optional(),
  /** Host ids that hold it. */
  warm_on: z.array(z.string()).optional(),
  labels: z.record(z.string(), z.array(z.string())).optional(),
  config: z.record(z.string(), z.unknown()).optional(),
});

export type ModelView = z.infer<typeof modelViewSchema>;

/** What runs of a model version took, and what the next ones are expected to take. */
export const estimatesViewSchema = z.object({
  model: z.string(),
  version: z.number().int(),
  /** Milliseconds between coordinator and store beside a job's life there. */
  network_ms: z.number(),
  /** One entry for each class of devices (hosts that take alike) and of jobs that run alike. */
  devices: z.array(
    z.object({
      device: z.string(),
      /** 0 where all axes but the batch axis are fixed, else the power of two of the elements per item. */
      size_class: z.number().int(),
      /** What the figures rest on: a full window of runs, a line through few, or the warm-up at load. */
      source: z.enum(["window", "fit", "warm_up"]),
      samples: z.number().int(),
      /** Mean milliseconds per item in the batch size that is most used. */
      item_ms: z.number(),
      /** Milliseconds that a run of so many items is promised to take at most. */
      runs: z.array(z.object({ items: z.number().int(), ms: z.number() })),
      newest_sample: timestamp.optional(),
      load_ms: z.number().optional(),
      /** Beside the run: reading, writing, committing. */
      overhead_ms: z.number().optional(),
      /** What part of its hosts' time the model is reckoned to get, where other models have work there: an even part at least. */
      host_share: z.number().optional(),
      /** What passes between two runs of a host while jobs wait, for claims and transfers. */
      idle_ms: z.number().optional(),
    }),
  ),
});

export type EstimatesView = z.infer<typeof estimatesViewSchema>;

export const tenantViewSchema = z.object({
  tenant: z.string(),
  /** Its share against other tenants' while they all have jobs waiting. */
  weight: z.number(),
  /** Ids of its API keys; never their secrets. */
  keys: z.array(z.string()),
  /** Its jobs that wait, by the model versions that they wait for. */
  waiting: z.array(z.object({ model: z.string(), version: z.number().int(), jobs: z.number().int() })),
  /** Of the last minute. Clients of older coordinators do without. */
  recent: z
    .object({
      /** Jobs that ended. */
      jobs: z.number().int(),
      device_ms: z.number(),
      /** Of the device time of all tenants, from 0 to 1. */
      device_share: z.number(),
      /** From admission to claim. */
      queue_ms: z.object({ p50: z.number().nullable(), p95: z.number().nullable(), p99: z.number().nullable() }),
    })
    .optional(),
});

export type TenantView = z.infer<typeof tenantViewSchema>;

/** RFC 9457 body of every failure on /v1. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  instance: z.string().optional(),
  code: z.string(),
  retryable: z.boolean(),
  job_id: z.string().optional(),
  retry_after_ms: z.number().optional(),
  estimated_ms: z.number().optional(),
  /** Of `no_capable_host`: what the closest host lacks. */
  missing: z.array(z.string()).optional(),
  errors: z.array(z.object({ pointer: z.string(), expected: z.string(), got: z.string(), detail: z.string().optional() })).optional(),
});

export type Problem = z.infer<typeof problemSchema>;

/** One line of the answer to POST /v1/jobs:batch: has either `job` or `problem`. */
export const batchLineSchema = z.object({
  /** Of the line in the request, from 0. */
  index: z.number().int(),
  /** As POST /v1/jobs would have answered this line. */
  status: z.number().int(),
  /** True when this is an earlier request's job, found by the idempotency key. */
  replayed: z.boolean().optional(),
  job: jobViewSchema.optional(),
  problem: problemSchema.optional(),
});

export type BatchLine = z.infer<typeof batchLineSchema>;

export const listSchema = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), links: z.object({ next: z.string().optional() }) });
