/**
 * What came by the interface and not with the repository's folder: versions with their files' digests, files that were sent ahead, and
 * configurations. Shared by all coordinators; the bytes lie in the blob store. Failures: `store_unavailable`.
 */

import type { BlobReference, ModelConfig, UploadedVersion } from "@switchyard/protocol";

/** Names one version. */
export interface VersionName {
  model: string;
  version: number;
}

export type NewUpload = Omit<UploadedVersion, "uploadId" | "uploadedMs" | "leavingMs">;

export interface UploadStore {
  /** By `<model>@<version>`. This and the configurations are the same map as long as nothing of it has changed, and the same object an entry. */
  uploads(): Promise<ReadonlyMap<string, UploadedVersion>>;
  find(of: VersionName): Promise<UploadedVersion | undefined>;
  /** The digest that was first published under this number, by whomever. */
  firstDigest(of: VersionName): Promise<string | undefined>;
  /**
   * Makes it the version of its number, if there is none: answers what stands there then. Of several that come at once one stands, and all are
   * answered that one. The files are in the blob store before.
   */
  add(upload: NewUpload): Promise<{ version: UploadedVersion; created: boolean }>;
  /** As AliasStore.change, of one version: to mark it as leaving, to let it stay, or to remove it. */
  change(
    of: VersionName,
    change: (before: UploadedVersion | undefined, nowMs: number) => UploadedVersion | undefined,
  ): Promise<UploadedVersion | undefined>;
  /** Files that were sent ahead and may still be used, by name. */
  staged(of: VersionName): Promise<Map<string, BlobReference>>;
  /** Keeps the note of such a file for `keepMs`, and with it those of the others. */
  stage(of: VersionName, file: { name: string; keepMs: number } & BlobReference): Promise<void>;
  /** Configurations of models, by name. */
  configs(): Promise<ReadonlyMap<string, ModelConfig>>;
  /** Absent: removes it. */
  setConfig(model: string, config: ModelConfig | undefined): Promise<void>;
}
