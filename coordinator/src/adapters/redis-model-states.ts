/** States of models in Redis: one hash, an entry for each model of which something was asked. */

import type { ModelState } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry, entriesOf } from "./redis-entries.ts";

export class RedisModelStates implements ModelStateStore {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async all(): Promise<ReadonlyMap<string, ModelState>> {
    return new Map(await entriesOf<ModelState>(this.#redis, keys.modelStates));
  }

  change(model: string, change: Parameters<ModelStateStore["change"]>[1]): Promise<ModelState | undefined> {
    return changeEntry(this.#redis, { key: keys.modelStates, field: model, what: `the state of model ${model}` }, change);
  }
}
