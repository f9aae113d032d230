/** The registry of models as coordinators published it, kept current by its revision. Read only. */

import type { ModelVersion } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";

export class KnownModels {
  readonly #redis: Redis;
  #revision = "";
  #byTag = new Map<string, ModelVersion>();

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Reads the registry again if it changed; answers whether it did. */
  async refresh(): Promise<boolean> {
    const revision = (await this.#redis.get(keys.modelsRevision)) ?? "";
    if (revision === this.#revision) return false;
    const rows = await this.#redis.hvals(keys.models);
    const versions = rows.map((row) => JSON.parse(row) as ModelVersion);
    this.#byTag = new Map(versions.map((version) => [version.tag, version]));
    this.#revision = revision;
    return true;
  }

  /** True once a coordinator has published anything. */
  published(): boolean {
    return this.#revision !== "";
  }

  byTag(tag: string): ModelVersion | undefined {
    return this.#byTag.get(tag);
  }

  loadable(): ModelVersion[] {
    return [...this.#byTag.values()].filter((version) => version.failure === undefined);
  }
}
