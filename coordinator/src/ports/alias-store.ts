/** Aliases of all models, shared by all coordinators. Failures: `store_unavailable`. */

import type { ModelAlias } from "@switchyard/protocol";

/** By model, then alias. */
export type AllAliases = ReadonlyMap<string, ReadonlyMap<string, ModelAlias>>;

export interface AliasStore {
  /** The same map as long as nothing has changed. */
  all(): Promise<AllAliases>;
  /**
   * Makes of one alias what `change` makes of it as it stands now; nothing removes it. Answers what stands then. Throws `changed_meanwhile` when
   * somebody else changed it between, and what `change` throws.
   */
  change(
    of: { model: string; alias: string },
    change: (before: ModelAlias | undefined, nowMs: number) => ModelAlias | undefined,
  ): Promise<ModelAlias | undefined>;
}
