/**
 * What came by the interface, as it stands in the store. Each kind has a counter and is read only when that rose; all of them every half a minute, since
 * whoever writes may die before it raises one.
 */

import type { ModelConfig, ModelState, UploadedVersion } from "@switchyard/protocol";
import { keys, type LifecycleHash } from "@switchyard/protocol/redis";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { UploadStore } from "../ports/upload-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

const lookAnywayMs = 30_000;

/** A kind of which nothing has changed is the same map as before. */
export interface Lifecycle {
  uploads: ReadonlyMap<string, UploadedVersion>;
  configs: ReadonlyMap<string, ModelConfig>;
  aliases: AllAliases;
  states: ReadonlyMap<string, ModelState>;
}

export const noLifecycle: Lifecycle = { uploads: new Map(), configs: new Map(), aliases: new Map(), states: new Map() };

export interface LifecycleStores {
  uploads: Pick<UploadStore, "uploads" | "configs">;
  aliases: Pick<AliasStore, "all">;
  states: Pick<ModelStateStore, "all">;
}

export class LifecycleReader {
  readonly #redis: RedisConnection;
  readonly #stores: LifecycleStores;
  /** As they stood before what they count was read. */
  #revisions: ReadonlyMap<string, string> = new Map();
  /** How much further the counter of the release before is than those: what coordinators of that release have changed. */
  #byOthers = 0;
  /** By the store's clock. */
  #readAllMs = Number.NEGATIVE_INFINITY;
  #found = noLifecycle;

  constructor(redis: RedisConnection, stores: LifecycleStores) {
    this.#redis = redis;
    this.#stores = stores;
  }

  async read(): Promise<Lifecycle> {
    const { aliases, states, uploads } = this.#stores;
    const [reply, all] = await this.#redis.sendAll([
      ["hgetall", keys.lifecycleRevisions],
      ["get", keys.lifecycleRevision],
    ]);
    const revisions = fieldsOf(reply!);
    const byOthers = Number(all ?? 0) - [...revisions.values()].reduce((sum, revision) => sum + Number(revision), 0);
    const nowMs = this.#redis.nowMs();
    // between two counters that are raised one after the other it may be found too early: then it is found again
    const isDue = byOthers !== this.#byOthers || Math.abs(nowMs - this.#readAllMs) >= lookAnywayMs;
    const ifRisen = <Found>(hash: LifecycleHash, read: () => Promise<Found>, before: Found): Promise<Found> | Found =>
      isDue || revisions.get(hash) !== this.#revisions.get(hash) ? read() : before;
    const found = this.#found;
    const [uploadsNow, configsNow, aliasesNow, statesNow] = await Promise.all([
      ifRisen("uploads", () => uploads.uploads(), found.uploads),
      ifRisen("modelConfigs", () => uploads.configs(), found.configs),
      ifRisen("aliases", () => aliases.all(), found.aliases),
      ifRisen("modelStates", () => states.all(), found.states),
    ]);
    this.#found = { uploads: uploadsNow, configs: configsNow, aliases: aliasesNow, states: statesNow };
    this.#revisions = revisions;
    this.#byOthers = byOthers;
    if (isDue) this.#readAllMs = nowMs;
    return this.#found;
  }
}
