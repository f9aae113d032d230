/** The registry of models as coordinators published it, kept current by its revision. Read only. */

import { type ChoosyQueue, choosyVersion, type ModelVersion } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";

/** What changed in the registry. */
export interface RegistryChange {
  /** Queues of jobs with requirements of their own that ended. */
  forgotten: readonly ModelVersion[];
  /** Uploaded versions that were taken out. One in a folder may only be out of a coordinator's sight. */
  removed: readonly ModelVersion[];
}

export class KnownModels {
  readonly #redis: RedisClient;
  #revision = "";
  #versions: ModelVersion[] = [];
  /** Queues of jobs with requirements of their own are among them. */
  #byTag = new Map<string, ModelVersion>();
  #isChanged = false;
  /** What left the registry and was not told yet, by tag. */
  #gone = new Map<string, ModelVersion>();
  /** The last look of all, and the one that has not begun yet. */
  #look: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Reads the registry again if it changed. One look after the other: whoever asks during one shares the next, as that one may have been too early. */
  refresh(): Promise<void> {
    this.#next ??= this.#look = this.#look
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.#read();
      });
    return this.#next;
  }

  async #read(): Promise<void> {
    const revision = (await this.#redis.get(keys.modelsRevision)) ?? "";
    if (revision === this.#revision) return;
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
    this.#revision = revision;
    this.#isChanged = true;
    if (!this.published()) return; // the store lost it, and will have it again
    for (const [tag, version] of before) if (!this.#byTag.has(tag)) this.#gone.set(tag, version);
  }

  /** What changed since the last call, whoever asked for the looks; undefined when nothing did, or the registry is not there now. */
  takeChange(): RegistryChange | undefined {
    if (!this.#isChanged || !this.published()) return undefined;
    const gone = [...this.#gone.values()].filter(({ tag }) => !this.#byTag.has(tag));
    this.#isChanged = false;
    this.#gone = new Map();
    return {
      forgotten: gone.filter(({ require }) => require !== undefined),
      removed: gone.filter(({ files, require }) => require === undefined && files !== undefined),
    };
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
