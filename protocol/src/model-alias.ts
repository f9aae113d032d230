/** Names for versions of a model, and what stands behind one in Redis. */

import type { AliasTarget } from "./schemas/model-alias.ts";

export const aliasPattern = /^[a-z][a-z0-9-]{0,31}$/;

/** The alias through which requests go that name no version. */
export const defaultAlias = "default";

/** One alias as it stands in Redis. */
export interface ModelAlias {
  target: AliasTarget;
  /** What it stood for before, newest first. */
  previous: AliasTarget[];
  /** By the store's clock. */
  updatedMs: number;
}
