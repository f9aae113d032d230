/**
 * The registry as it stands in Redis, where hosts read it. A version's content never changes: the first digest that was published under a number stays.
 * What stands there is remembered as long as nobody else writes, so that a change costs what it changes and not what there is.
 */

import type { ModelVersion } from "@switchyard/protocol";
import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import type { UploadStore } from "../ports/upload-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

/** What stood there at a revision, by `<model>@<version>`. */
interface Standing {
  revision: string | null;
  texts: ReadonlyMap<string, string>;
  digests: Map<string, string>;
}

export class PublishedVersions {
  readonly #redis: RedisConnection;
  readonly #uploads: Pick<UploadStore, "uploads">;
  /** Undefined: to be read. */
  #standing: Standing | undefined;
  readonly #texts = new WeakMap<ModelVersion, string>();

  constructor(redis: RedisConnection, uploads: Pick<UploadStore, "uploads">) {
    this.#redis = redis;
    this.#uploads = uploads;
  }

  /** Whether nobody has written since this coordinator did, nor has the store lost data. */
  isCurrent(revision: string | null): boolean {
    return revision !== null && revision === this.#standing?.revision;
  }

  /**
   * Writes what differs from what stands there at this revision, and raises that. A coordinator whose folder never had a model removes none: it may not
   * be mounted. What was uploaded and is no longer, any of them removes. Answers the versions; one whose content is not the first of its number as failed.
   */
  async publish(found: readonly ModelVersion[], at: { revision: string | null; mayRemove: boolean }): Promise<ModelVersion[]> {
    const standing = this.#standing && this.isCurrent(at.revision) ? this.#standing : await this.#read(at.revision);
    this.#standing = undefined; // until all is written
    await this.#pin(found, standing.digests);
    const versions = found.map((version) => withFirstDigest(version, standing.digests.get(fieldOf(version))));
    this.#standing = await this.#write(versions, standing, at);
    return versions;
  }

  async #read(revision: string | null): Promise<Standing> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.models]]);
    return { revision, texts: fieldsOf(reply!), digests: new Map() };
  }

  /** Completes the first digests. Pins the content of every version that can be served; what cannot be may be half a copy. */
  async #pin(versions: readonly ModelVersion[], digests: Map<string, string>): Promise<void> {
    const unknown = versions.filter((version) => !digests.has(fieldOf(version)));
    if (unknown.length === 0) return;
    const fields = unknown.map(fieldOf);
    const ask: RedisCommand = ["hmget", keys.digests, ...fields];
    let [known] = await this.#redis.sendAll([ask]);
    const pins = unknown.flatMap((version, at) =>
      (known as (string | null)[])[at] === null && version.failure === undefined
        ? [["hsetnx", keys.digests, fields[at] as string, version.digest] as const]
        : [],
    );
    if (pins.length > 0) known = (await this.#redis.sendAll([...pins, ask])).at(-1)!;
    for (const [at, digest] of (known as (string | null)[]).entries()) if (digest !== null) digests.set(fields[at] as string, digest);
  }

  async #write(
    versions: readonly ModelVersion[],
    { digests, texts: stored }: Standing,
    { mayRemove, revision }: { revision: string | null; mayRemove: boolean },
  ): Promise<Standing | undefined> {
    const texts = new Map(versions.map((version) => [fieldOf(version), this.#textOf(version)]));
    const changed = [...texts].filter(([field, text]) => stored.get(field) !== text);
    const isUpload = (text: string): boolean => (JSON.parse(text) as Partial<ModelVersion>).files !== undefined;
    const missing = [...stored].filter(([field]) => !texts.has(field));
    const unknown = missing.flatMap(([field, text]) => (mayRemove || isUpload(text) ? [field] : []));
    // another coordinator may have taken an upload since this one looked: read after the list, so that what is listed and uploaded is found
    const uploads = unknown.length > 0 ? await this.#uploads.uploads() : undefined;
    const gone = unknown.filter((field) => !uploads?.has(field));
    const removed = new Set(gone);
    for (const [field, text] of missing) if (!removed.has(field)) texts.set(field, text);
    if (changed.length === 0 && gone.length === 0 && revision !== null) return { revision, texts, digests };
    // raised in the same write, since nobody else would tell hosts of what stands already; and after it, since a cluster keeps no order
    const raise: RedisCommand = ["incr", keys.modelsRevision];
    const writes: RedisCommand[] = [];
    if (changed.length > 0) writes.push(["hset", keys.models, ...changed.flat()]);
    if (gone.length > 0) writes.push(["hdel", keys.models, ...gone]);
    if (writes.length > 0) await this.#redis.sendAll([...writes, raise]);
    const [raised] = await this.#redis.sendAll([raise]);
    const isOurs = Number(raised) === Number(revision ?? 0) + (writes.length > 0 ? 2 : 1);
    return isOurs ? { revision: String(raised), texts, digests } : undefined; // somebody else wrote meanwhile
  }

  #textOf(version: ModelVersion): string {
    let text = this.#texts.get(version);
    if (text === undefined) {
      text = JSON.stringify(version);
      this.#texts.set(version, text);
    }
    return text;
  }
}

function fieldOf({ model, version }: ModelVersion): string {
  return `${model}@${version}`;
}

function withFirstDigest(version: ModelVersion, first: string | undefined): ModelVersion {
  if (first === undefined || version.digest === first || version.digest === "") return version;
  const failure = `its content changed: version ${version.version} was published with digest ${first.slice(0, 12)}… and is now ${version.digest.slice(0, 12)}…; put new content under a new version number`;
  return { ...version, failure };
}
