/** States of models in Redis: one hash, an entry for each model of which something was asked. */

import type { ModelState } from "@switchyard/protocol";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry, RedisEntries } from "./redis-entries.ts";

export class RedisModelStates implements ModelStateStore {
  readonly #redis: RedisConnection;
  readonly #entries: RedisEntries<ModelState>;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
    this.#entries = new RedisEntries(redis, "modelStates");
  }

  all(): Promise<ReadonlyMap<string, ModelState>> {
    return this.#entries.read();
  }

  change(model: string, change: Parameters<ModelStateStore["change"]>[1]): Promise<ModelState | undefined> {
    return changeEntry(this.#redis, { hash: "modelStates", field: model, what: `the state of model ${model}` }, change);
  }
}
