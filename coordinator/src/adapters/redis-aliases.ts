/** Aliases in Redis: one hash, an entry each. */

import type { ModelAlias } from "@switchyard/protocol";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { changeEntry, RedisEntries } from "./redis-entries.ts";

export class RedisAliases implements AliasStore {
  readonly #redis: RedisConnection;
  readonly #entries: RedisEntries<ModelAlias>;
  /** Of which map the other one was made. */
  #grouped: { of: ReadonlyMap<string, ModelAlias>; all: AllAliases } | undefined;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
    this.#entries = new RedisEntries(redis, "aliases");
  }

  async all(): Promise<AllAliases> {
    const entries = await this.#entries.read();
    if (this.#grouped?.of !== entries) this.#grouped = { of: entries, all: byModel(entries) };
    return this.#grouped.all;
  }

  change({ alias, model }: { model: string; alias: string }, change: Parameters<AliasStore["change"]>[1]): Promise<ModelAlias | undefined> {
    return changeEntry(
      this.#redis,
      { hash: "aliases", field: `${model}/${alias}`, what: `the alias '${alias}' of model ${model}` },
      change,
    );
  }
}

function byModel(entries: ReadonlyMap<string, ModelAlias>): AllAliases {
  const all = new Map<string, Map<string, ModelAlias>>();
  for (const [field, entry] of entries) {
    const [model = "", alias = ""] = field.split("/"); // neither has a slash
    const ofModel = all.get(model) ?? new Map<string, ModelAlias>();
    all.set(model, ofModel.set(alias, entry));
  }
  return all;
}
