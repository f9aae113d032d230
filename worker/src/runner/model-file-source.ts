/** Files of uploaded versions: linked from the cluster's blob folder where this host sees it, else downloaded from a coordinator. */

import { copyFile, link, rm } from "node:fs/promises";
import { type ModelFileReference, SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisWire } from "../redis-connection.ts";
import type { FileSource } from "../runtime/fetched-models.ts";
import { digestOfFile, type FilesystemBlobs } from "./filesystem-blobs.ts";
import type { HttpBlobs } from "./http-blobs.ts";

export class ModelFileSource implements FileSource {
  readonly #redis: RedisWire;
  readonly #folder: FilesystemBlobs;
  readonly #remote: HttpBlobs | undefined;

  constructor(parts: { redis: RedisWire; folder: FilesystemBlobs; remote: HttpBlobs | undefined }) {
    this.#redis = parts.redis;
    this.#folder = parts.folder;
    this.#remote = parts.remote;
  }

  async fetch(file: ModelFileReference, path: string): Promise<void> {
    const [told, seen] = await Promise.all([this.#redis.get(keys.blobFolder), this.#folder.folderId()]);
    const blob = told !== null && told === seen ? await this.#folder.fileOf(file.sha256) : undefined;
    if (blob !== undefined) return this.#take(blob, file, path);
    if (this.#remote) return this.#remote.download(file, path);
    const remedy = "set SWITCHYARD_URL to a coordinator's address, or SWITCHYARD_BLOBS to the coordinators' folder";
    throw new SwitchyardError("model_not_ready", `this host has no way to ${file.name}: ${remedy}`);
  }

  /** The same bytes under another name where that can be; nobody changes a blob. What a disk made of it is found here, not at every load. */
  async #take(blob: string, { name, sha256 }: ModelFileReference, path: string): Promise<void> {
    await rm(path, { force: true });
    await link(blob, path).catch(() => copyFile(blob, path));
    if ((await digestOfFile(path)) === sha256) return;
    await rm(path, { force: true });
    throw new SwitchyardError(
      "store_unavailable",
      `${name} is damaged in the coordinators' folder; upload the version again, its weights too`,
    );
  }
}
