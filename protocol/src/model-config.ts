/** Checks a parsed model.yaml and puts what is wrong with it into words: the field's path, what was expected, what came. */

import { type ModelConfig, modelConfigSchema } from "./model.ts";
import { pathText, schemaFaults } from "./schema-faults.ts";

export type CheckedModelConfig = { config: ModelConfig } | { problem: string };

/** An empty document (null) is an empty configuration. `problem` lists every fault, separated by "; ". */
export function checkModelConfig(document: unknown): CheckedModelConfig {
  const parsed = modelConfigSchema.safeParse(document ?? {});
  if (parsed.success) return { config: parsed.data };
  const faults = schemaFaults(modelConfigSchema, parsed.error.issues, document);
  return { problem: faults.map(({ path, text }) => `${pathText(path)}: ${text}`).join("; ") };
}
