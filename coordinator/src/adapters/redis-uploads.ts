/** What was uploaded, in Redis: entries that are written once, configurations that may change, and notes of files that came ahead. */

import { randomBytes } from "node:crypto";
import { type BlobReference, type ModelConfig, modelConfigSchema, type UploadedVersion } from "@switchyard/protocol";
import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import type { NewUpload, UploadStore, VersionName } from "../ports/upload-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry } from "./redis-entries.ts";

/** Coordinators look whether it rose; raised once too often does no harm. */
const raise: RedisCommand = ["incr", keys.lifecycleRevision];

export class RedisUploads implements UploadStore {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async uploads(): Promise<UploadedVersion[]> {
    const [reply] = await this.#redis.sendAll([["hvals", keys.uploads]]);
    return (reply as string[]).map((row) => JSON.parse(row) as UploadedVersion);
  }

  async find(of: VersionName): Promise<UploadedVersion | undefined> {
    const [reply] = await this.#redis.sendAll([["hget", keys.uploads, fieldOf(of)]]);
    return reply === null ? undefined : (JSON.parse(reply as string) as UploadedVersion);
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
    await this.#redis.sendAll([raise]);
    return { version: JSON.parse(stands as string) as UploadedVersion, created: stands === text };
  }

  change(
    of: VersionName,
    change: (before: UploadedVersion | undefined) => UploadedVersion | undefined,
  ): Promise<UploadedVersion | undefined> {
    const what = `version ${of.version} of model ${of.model}`;
    return changeEntry<UploadedVersion>(this.#redis, { key: keys.uploads, field: fieldOf(of), what }, change);
  }

  async staged({ model, version }: VersionName): Promise<Map<string, BlobReference>> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.staged(model, version)]]);
    const flat = reply as string[];
    const staged = new Map<string, BlobReference>();
    for (let at = 0; at < flat.length; at += 2) {
      const [sha256 = "", sizeBytes] = (flat[at + 1] as string).split(" ");
      staged.set(flat[at] as string, { sha256, sizeBytes: Number(sizeBytes) });
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

  async configs(): Promise<Map<string, ModelConfig>> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.modelConfigs]]);
    const flat = reply as string[];
    const configs = new Map<string, ModelConfig>();
    for (let at = 0; at < flat.length; at += 2) {
      // another release may have written it
      const read = modelConfigSchema.safeParse(JSON.parse(flat[at + 1] as string));
      if (read.success) configs.set(flat[at] as string, read.data);
    }
    return configs;
  }

  async setConfig(model: string, config: ModelConfig | undefined): Promise<void> {
    const write: RedisCommand =
      config === undefined ? ["hdel", keys.modelConfigs, model] : ["hset", keys.modelConfigs, model, JSON.stringify(config)];
    await this.#redis.sendAll([write]);
    await this.#redis.sendAll([raise]);
  }
}

function fieldOf({ model, version }: VersionName): string {
  return `${model}@${version}`;
}
