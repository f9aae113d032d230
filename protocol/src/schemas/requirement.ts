/** What models and jobs require and prefer of hosts, as people write it. How it is compared stands in ../capabilities.ts. */

import { z } from "zod";
import { labelPattern } from "../capabilities.ts";

const names = z.array(z.string().min(1)).min(1);

/** A host must have one of `providers`, one GPU of `gpu_memory_mb`, all of `frameworks` and all of `labels`. */
export const requirementSchema = z.strictObject({
  providers: names.optional(),
  gpu_memory_mb: z.number().int().positive().optional(),
  frameworks: names.optional(),
  labels: z.record(z.string(), z.string()).optional(),
});

export type Requirement = z.infer<typeof requirementSchema>;

export const preferenceSchema = z.strictObject({
  label: z.string().regex(labelPattern, "a label as name=value"),
  weight: z.number().finite(),
});

export type Preference = z.infer<typeof preferenceSchema>;
