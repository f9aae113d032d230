/** What was asked of models as wholes: to be loaded, with other settings, or to serve nothing. Shared by all coordinators. */

import type { ModelState } from "@switchyard/protocol";

export interface ModelStateStore {
  /** The same map as long as nothing has changed, and the same object for each model. */
  all(): Promise<ReadonlyMap<string, ModelState>>;
  /** As AliasStore.change, of one model. */
  change(model: string, change: (before: ModelState | undefined, nowMs: number) => ModelState | undefined): Promise<ModelState | undefined>;
}
