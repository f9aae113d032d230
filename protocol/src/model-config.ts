/** Checks a parsed model.yaml and puts what is wrong with it, or with another such document, into words: the field's path, what was expected, what came. */

import type { z } from "zod";
import { type ModelConfig, modelConfigSchema } from "./model.ts";
import { pathText, schemaFaults } from "./schema-faults.ts";

export type CheckedModelConfig = { config: ModelConfig } | { problem: string };

/** An empty document (null) is an empty configuration. `problem` lists every fault, separated by "; ". */
export function checkModelConfig(document: unknown): CheckedModelConfig {
  const parsed = modelConfigSchema.safeParse(document ?? {});
  if (parsed.success) return { config: parsed.data };
  return { problem: faultsOf(parsed.error, modelConfigSchema, document) };
}

/** Every fault of a document that a schema refused, separated by "; ". */
export function faultsOf(error: z.ZodError, schema: z.core.$ZodType, document: unknown): string {
  return schemaFaults(schema, error.issues, document)
    .map(({ path, text }) => `${pathText(path)}: ${text}`)
    .join("; ");
}
