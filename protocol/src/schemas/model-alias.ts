/** What stands behind a name for versions of a model, as clients write and read it. */

import { z } from "zod";
import { versionNumberIn } from "../model.ts";
import { aliasPattern } from "../model-alias.ts";

const version = z.number().int().positive();
const mostInSplit = 16;
/** As a key. The pattern is for readers of the schema. */
const versionText = z
  .string()
  .regex(/^[1-9]\d{0,15}$/)
  .refine((text) => versionNumberIn(text) !== undefined);

/** What an alias stands for: one version, several by weight, or (only of `default`) another alias. */
export const aliasTargetSchema = z
  .strictObject({
    version: version.optional(),
    /** Weights by version, of any sum. */
    split: z.record(versionText, z.number().min(0).max(1_000_000)).optional(),
    alias: z.string().regex(aliasPattern).optional(),
    /** This share of requests runs on that version as well; what comes of it is counted and dropped. */
    shadow: z.strictObject({ version, share: z.number().gt(0).max(1) }).optional(),
  })
  .superRefine(({ alias, shadow, split, version: one }, context) => {
    const given = [one, split, alias].filter((target) => target !== undefined);
    if (given.length !== 1) context.addIssue({ code: "custom", path: [], message: "exactly one of version, split and alias" });
    if (alias !== undefined && shadow !== undefined) {
      context.addIssue({ code: "custom", path: ["shadow"], message: "no shadow beside an alias: give one to that alias" });
    }
    const weights = Object.values(split ?? { any: 1 });
    if (weights.length > mostInSplit) context.addIssue({ code: "custom", path: ["split"], message: `at most ${mostInSplit} versions` });
    if (!weights.some((weight) => weight > 0)) context.addIssue({ code: "custom", path: ["split"], message: "a weight above 0" });
  });

export type AliasTarget = z.infer<typeof aliasTargetSchema>;

export const aliasViewSchema = z.object({
  model: z.string(),
  name: z.string(),
  target: z.object(aliasTargetSchema.shape),
  /** What a roll back makes of it; absent where there is nothing to go back to. */
  previous: z.object(aliasTargetSchema.shape).optional(),
  updated_at: z.string(),
});

export type AliasView = z.infer<typeof aliasViewSchema>;
