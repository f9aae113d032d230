/** What was uploaded, in Redis: entries that are written once, configurations that may change, and notes of files that came ahead. */

import { randomBytes } from "node:crypto";
import type { BlobReference, ModelConfig, UploadedVersion } from "@switchyard/protocol";
import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import { modelConfigSchema } from "@switchyard/protocol/schemas";
import type { NewUpload, UploadStore, VersionName } from "../ports/upload-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry, entryIn, RedisEntries, raise } from "./redis-entries.ts";
import { fieldsOf } from "./redis-fields.ts";

export class RedisUploads implements UploadStore {
  readonly #redis: RedisConnection;
  readonly #uploads: RedisEntries<UploadedVersion>;
  readonly #configs: RedisEntries<ModelConfig>;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
    this.#uploads = new RedisEntries(redis, "uploads");
    // another release may have written it
    this.#configs = new RedisEntries(redis, "modelConfigs", (text) => modelConfigSchema.safeParse(JSON.parse(text)).data);
  }

  uploads(): Promise<ReadonlyMap<string, UploadedVersion>> {
    return this.#uploads.read();
  }

  async find(of: VersionName): Promise<UploadedVersion | undefined> {
    const [reply] = await this.#redis.sendAll([["hget", keys.uploads, fieldOf(of)]]);
    return reply === null ? undefined : entryIn(reply as string);
  }

  async firstDigest(of: VersionName): Promise<string | undefined> {
    const [reply] = await this.#redis.sendAll([["hget", keys.digests, fieldOf(of)]]);
    return (reply as string | null) ?? undefined;
  }

  async add(upload: NewUpload): Promise<{ version: UploadedVersion; created: boolean }> {
    const entry: UploadedVersion = { ...upload, uploadId: randomBytes(8).toString("hex"), uploadedMs: this.#redis.nowMs() };
    const text = JSON.stringify(entry);
    // what is published under a number first is its content for good: the folder may have been quicker
    const [, first] = await this.#redis.sendAll([
      ["hsetnx", keys.digests, fieldOf(upload), upload.digest],
      ["hget", keys.digests, fieldOf(upload)],
    ]);
    if (first !== upload.digest) return { version: { ...entry, digest: String(first) }, created: false };
    const stands = await this.#redis.run("put-entry", keys.uploads, [fieldOf(upload), "", text]);
    await this.#redis.sendAll(raise("uploads"));
    return { version: entryIn(stands as string), created: stands === text };
  }

  change(
    of: VersionName,
    change: (before: UploadedVersion | undefined, nowMs: number) => UploadedVersion | undefined,
  ): Promise<UploadedVersion | undefined> {
    const what = `version ${of.version} of model ${of.model}`;
    return changeEntry<UploadedVersion>(this.#redis, { hash: "uploads", field: fieldOf(of), what }, change);
  }

  async staged({ model, version }: VersionName): Promise<Map<string, BlobReference>> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.staged(model, version)]]);
    const staged = new Map<string, BlobReference>();
    for (const [name, text] of fieldsOf(reply!)) {
      const [sha256 = "", sizeBytes] = text.split(" ");
      staged.set(name, { sha256, sizeBytes: Number(sizeBytes) });
    }
    return staged;
  }

  async stage({ model, version }: VersionName, file: { name: string; keepMs: number } & BlobReference): Promise<void> {
    const key = keys.staged(model, version);
    await this.#redis.sendAll([
      ["hset", key, file.name, `${file.sha256} ${file.sizeBytes}`],
      ["pexpire", key, file.keepMs],
    ]);
  }

  configs(): Promise<ReadonlyMap<string, ModelConfig>> {
    return this.#configs.read();
  }

  async setConfig(model: string, config: ModelConfig | undefined): Promise<void> {
    const write: RedisCommand =
      config === undefined ? ["hdel", keys.modelConfigs, model] : ["hset", keys.modelConfigs, model, JSON.stringify(config)];
    await this.#redis.sendAll([write]);
    await this.#redis.sendAll(raise("modelConfigs"));
  }
}

function fieldOf({ model, version }: VersionName): string {
  return `${model}@${version}`;
}
