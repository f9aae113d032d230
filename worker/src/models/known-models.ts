/** The registry of models as coordinators published it, kept current by its revision. Read only. */

import { type ChoosyQueue, choosyVersion, type ModelVersion } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";

export class KnownModels {
  readonly #redis: RedisClient;
  #revision = "";
  #versions: ModelVersion[] = [];
  /** Queues of jobs with requirements of their own are among them. */
  #byTag = new Map<string, ModelVersion>();
  #forgotten: ModelVersion[] = [];
  #removed: ModelVersion[] = [];

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Reads the registry again if it changed; answers whether it did. */
  async refresh(): Promise<boolean> {
    const revision = (await this.#redis.get(keys.modelsRevision)) ?? "";
    if (revision === this.#revision) return false;
    const [models, choosy] = await Promise.all([this.#redis.hvals(keys.models), this.#redis.hgetall(keys.choosyQueues)]);
    const before = this.#byTag;
    this.#versions = models.map((row) => JSON.parse(row) as ModelVersion);
    this.#byTag = new Map(this.#versions.map((version) => [version.tag, version]));
    const byModel = Map.groupBy(this.#versions, ({ model }) => model);
    for (const [tag, row] of Object.entries(choosy)) {
      const queue = JSON.parse(row) as ChoosyQueue;
      const version = choosyVersion(queue, tag, byModel.get(queue.model) ?? []);
      if (version) this.#byTag.set(tag, version);
    }
    const gone = [...before.values()].filter(({ tag }) => !this.#byTag.has(tag));
    this.#forgotten = gone.filter(({ require }) => require !== undefined);
    this.#removed = gone.filter(({ files, require }) => require === undefined && files !== undefined);
    this.#revision = revision;
    return true;
  }

  /** Queues of jobs with requirements of their own that the last change of the registry ended. */
  forgotten(): readonly ModelVersion[] {
    return this.#forgotten;
  }

  /** Uploaded versions that the last change of the registry took out. One in a folder may only be out of a coordinator's sight. */
  removed(): readonly ModelVersion[] {
    return this.#removed;
  }

  /** True once a coordinator has published anything. */
  published(): boolean {
    return this.#revision !== "";
  }

  models(): ReadonlySet<string> {
    return new Set(this.#versions.map(({ model }) => model));
  }

  byTag(tag: string): ModelVersion | undefined {
    return this.#byTag.get(tag);
  }

  loadable(): ModelVersion[] {
    return this.#versions.filter((version) => version.failure === undefined && !version.unloaded);
  }
}
