/** model.yaml: its schema, and its check, which puts what is wrong with it, or with another such document, into words: the field's path, what was expected, what came. */

import { z } from "zod";
import { jobClasses, maxTimeoutMs } from "../job-states.ts";
import { preferenceSchema, requirementSchema } from "./requirement.ts";
import { pathText, schemaFaults } from "./schema-faults.ts";

const positive = z.number().int().positive();

/** model.yaml. An unknown key is an error. */
export const modelConfigSchema = z
  .strictObject({
    max_batch_items: positive.max(65_536).optional(),
    batch_axis: z.literal(0).optional(),
    max_delay_ms: z.number().min(0).max(10_000).optional(),
    default_timeout_ms: positive.max(maxTimeoutMs).optional(),
    class: z.enum(jobClasses).optional(),
    isolation: z.enum(["thread", "process"]).optional(),
    require: requirementSchema.optional(),
    prefer: z.array(preferenceSchema).optional(),
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
  })
  .superRefine(({ max_replicas: most, min_replicas: least }, context) => {
    if (least === undefined || most === undefined || least <= most) return;
    context.addIssue({ code: "custom", path: ["min_replicas"], message: `at most max_replicas, which is ${most}` });
  });

export type ModelConfig = z.infer<typeof modelConfigSchema>;

export type CheckedModelConfig = { config: ModelConfig } | { problem: string };

/** An empty document (null) is an empty configuration. `problem` lists every fault, separated by "; ". */
export function checkModelConfig(document: unknown): CheckedModelConfig {
  const parsed = modelConfigSchema.safeParse(document ?? {});
  if (parsed.success) return { config: parsed.data };
  return { problem: faultsOf(parsed.error, modelConfigSchema, document) };
}

/** A document can have as many as it has keys, each of any length. */
const mostFaults = 20;
const mostFaultChars = 600;

/** The faults of a document that a schema refused, separated by "; ". */
export function faultsOf(error: z.ZodError, schema: z.core.$ZodType, document: unknown): string {
  const faults = schemaFaults(schema, error.issues, document);
  const told = faults.slice(0, mostFaults).map(({ path, text }) => `${pathText(path)}: ${text}`.slice(0, mostFaultChars));
  if (faults.length > mostFaults) told.push(`and ${faults.length - mostFaults} more`);
  return told.join("; ");
}
