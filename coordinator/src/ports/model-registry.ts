/** The models that can be asked for: a consistent in-memory view of what coordinators published and hosts reported. */

import type { AliasTarget, ModelAlias, ModelVersion, Requirement, UploadedVersion } from "@switchyard/protocol";

/**
 * For how long a coordinator goes by what it has read of uploaded versions. One that could not read for longer takes no jobs for them, so that
 * whoever marks a version as leaving knows when nobody takes any.
 */
export const knownForMs = 2_000;

export interface ModelStatus {
  version: ModelVersion;
  /** `leaving`: somebody removes it. It takes no jobs; hosts run those that were taken before. */
  state: "ready" | "available" | "failed" | "unloaded" | "leaving";
  /** It was asked for, and a host is to load it. */
  loading?: true;
  /** Why it failed, or why a host does not hold it, when there is something to say. */
  reason?: string;
  /** What no registered host has of what it requires; absent when one has it all. */
  missing?: readonly string[];
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
  /**
   * The version asked for, by its number or by an alias, which may choose another one each time; without either what the alias `default` stands
   * for, or the highest that is not failed. Throws model_not_found or version_not_found.
   */
  resolve(model: string, named?: number | string): ModelStatus;
  /**
   * As `resolve`, for whoever only looks: of several that share the requests always the one with the largest share, so that the answer does not
   * change from one look to the next. Throws as that does.
   */
  usual(model: string, named?: number | string): ModelStatus;
  /** Of one model, by name; undefined where it has none. */
  aliases(model: string): ReadonlyMap<string, ModelAlias> | undefined;
  /** What also gets a share of the requests that go through an alias. */
  shadowOf(model: string, alias: string): AliasTarget["shadow"];
  /** The versions that must be on a host because their model was loaded by request: of one model, or of all. Those that requests without a version get. */
  promised(model?: string): ModelVersion[];
  byTag(tag: string): ModelStatus | undefined;
  /** What a tag stands for, without looking at hosts. */
  versionOf(tag: string): ModelVersion | undefined;
  /** All versions as they were published, in any order. */
  published(): Iterable<ModelVersion>;
  /** Queue tags of all versions, those of jobs with requirements of their own included. */
  tags(): string[];
  /** Of queues that were opened for jobs with requirements of their own, those whose version is gone. */
  abandoned(): string[];
  /** Whether jobs may be taken for this queue: not while its version is leaving, nor while this coordinator would not know. Asked right before. */
  mayTake(tag: string): boolean;
  /** Uploaded versions that somebody removes. */
  leaving(): UploadedVersion[];
  /** Tags of one model or version number, where given; as it stands in the store now. */
  queuesOf(of: { model?: string; version?: number }): Promise<string[]>;
  /** As jobs of this version see it that require more of a host than the model does. Writes nothing. Throws `invalid_request`. */
  requiring(version: ModelVersion, require: Requirement): ModelStatus;
  /** Makes the queue of such jobs known before the first of them is admitted. Throws `queue_full`. */
  openChoosy(version: ModelVersion): Promise<void>;
  /** Forgets such a queue; answers whether it was one. The caller has seen that it is empty. */
  forgetChoosy(tag: string): Promise<boolean>;
  /** True once the repository has been read at least once. */
  indexed(): boolean;
}
