/** Aliases in Redis: one hash, an entry each. */

import type { ModelAlias } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry, entriesOf } from "./redis-entries.ts";

export class RedisAliases implements AliasStore {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async all(): Promise<AllAliases> {
    const all = new Map<string, Map<string, ModelAlias>>();
    for (const [field, entry] of await entriesOf<ModelAlias>(this.#redis, keys.aliases)) {
      const [model = "", alias = ""] = field.split("/"); // neither has a slash
      const ofModel = all.get(model) ?? new Map<string, ModelAlias>();
      all.set(model, ofModel.set(alias, entry));
    }
    return all;
  }

  change({ alias, model }: { model: string; alias: string }, change: Parameters<AliasStore["change"]>[1]): Promise<ModelAlias | undefined> {
    return changeEntry(
      this.#redis,
      { key: keys.aliases, field: `${model}/${alias}`, what: `the alias '${alias}' of model ${model}` },
      change,
    );
  }
}
