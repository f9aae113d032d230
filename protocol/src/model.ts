/** What a model version is: its signature (read from the graph) and its configuration (model.yaml). */

import { z } from "zod";
import { jobClasses, maxTimeoutMs } from "./job-states.ts";
import type { Datatype } from "./tensors.ts";

export const modelNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export interface TensorSignature {
  name: string;
  datatype: Datatype;
  /** -1 marks a dynamic axis. */
  shape: number[];
  /** Names of symbolic axes as the graph gives them, null for fixed or unnamed ones; same length as `shape`. */
  axes?: (string | null)[];
}

export interface ModelSignature {
  inputs: TensorSignature[];
  outputs: TensorSignature[];
}

const positive = z.number().int().positive();

/** model.yaml. An unknown key is an error. */
export const modelConfigSchema = z.strictObject({
  max_batch_items: positive.max(65_536).optional(),
  batch_axis: z.literal(0).optional(),
  max_delay_ms: z.number().min(0).max(10_000).optional(),
  default_timeout_ms: positive.max(maxTimeoutMs).optional(),
  class: z.enum(jobClasses).optional(),
  isolation: z.enum(["thread", "process"]).optional(),
  require: z
    .strictObject({
      providers: z.array(z.string().min(1)).optional(),
      gpu_memory_mb: positive.optional(),
      frameworks: z.array(z.string().min(1)).optional(),
      labels: z.record(z.string(), z.string()).optional(),
    })
    .optional(),
  prefer: z.array(z.strictObject({ label: z.string().min(1), weight: z.number().finite() })).optional(),
  pin: z.boolean().optional(),
  min_replicas: z.number().int().min(0).optional(),
  max_replicas: positive.optional(),
  cache: z.strictObject({ ttl_s: positive.max(31_536_000), bytes: positive.optional(), shared: z.boolean().optional() }).optional(),
  outputs: z.record(z.string(), z.strictObject({ labels: z.string().min(1).optional() })).optional(),
  image: z
    .strictObject({
      size: z.tuple([positive, positive]),
      layout: z.enum(["NCHW", "NHWC", "HW", "FLAT"]).optional(),
      scale: z.number().finite().optional(),
      mean: z.array(z.number().finite()).optional(),
      std: z.array(z.number().finite().positive()).optional(),
      invert: z.enum(["never", "always", "bright-border"]).optional(),
    })
    .optional(),
});

export type ModelConfig = z.infer<typeof modelConfigSchema>;

/** One version in the registry, as coordinators publish it and hosts read it. */
export interface ModelVersion {
  model: string;
  version: number;
  /** SHA-256 of the ONNX file (and its external data), hex. */
  digest: string;
  /** Queue tag, see redis/queue-tag.ts. */
  tag: string;
  sizeBytes: number;
  /** Path of the ONNX file below the repository root. */
  path: string;
  signature: ModelSignature;
  config: ModelConfig;
  /** Class names per output, read from the files that model.yaml names. */
  labels?: Record<string, string[]>;
  /** Why it cannot be served; absent while it can. */
  failure?: string;
}
