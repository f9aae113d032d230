/** The models that can be asked for: a consistent in-memory view of what coordinators published and hosts reported. */

import type { ModelVersion } from "@switchyard/protocol";

export interface ModelStatus {
  version: ModelVersion;
  state: "ready" | "available" | "failed";
  /** Why it failed, when it did. */
  reason?: string;
  /** Host ids that hold it loaded. */
  warmOn: string[];
  /** How hosts batch it; absent until one has loaded it. */
  batching?: { maxItems: number; reason: string };
}

export interface ModelRegistry {
  /** All versions, by model name, then version. */
  list(): ModelStatus[];
  /** All versions of one model, newest first; empty when unknown. */
  versions(model: string): ModelStatus[];
  /** The version asked for, or the highest that is not failed; throws model_not_found or version_not_found. */
  resolve(model: string, version?: number): ModelStatus;
  byTag(tag: string): ModelStatus | undefined;
  /** Queue tags of all versions. */
  tags(): string[];
  /** True once the repository has been read at least once. */
  indexed(): boolean;
}
