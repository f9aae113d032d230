/** Aliases in Redis: one hash, an entry each. Whoever changes one says what it was. */

import { type ModelAlias, SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { AliasStore, AllAliases } from "../ports/alias-store.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisAliases implements AliasStore {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async all(): Promise<AllAliases> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.aliases]]);
    const flat = reply as string[];
    const all = new Map<string, Map<string, ModelAlias>>();
    for (let at = 0; at < flat.length; at += 2) {
      const [model = "", alias = ""] = (flat[at] as string).split("/"); // neither has a slash
      const ofModel = all.get(model) ?? new Map<string, ModelAlias>();
      all.set(model, ofModel.set(alias, JSON.parse(flat[at + 1] as string) as ModelAlias));
    }
    return all;
  }

  async change(
    { alias, model }: { model: string; alias: string },
    change: (before: ModelAlias | undefined, nowMs: number) => ModelAlias | undefined,
  ): Promise<ModelAlias | undefined> {
    const field = `${model}/${alias}`;
    const [read] = await this.#redis.sendAll([["hget", keys.aliases, field]]);
    const before = (read as string | null) ?? "";
    const made = change(before === "" ? undefined : (JSON.parse(before) as ModelAlias), this.#redis.nowMs());
    const after = made === undefined ? "" : JSON.stringify(made);
    const stands = await this.#redis.run("put-entry", keys.aliases, [field, before, after]);
    await this.#redis.sendAll([["incr", keys.lifecycleRevision]]);
    if (stands === after) return made;
    throw new SwitchyardError("changed_meanwhile", `Somebody else changed the alias '${alias}' of model ${model} meanwhile: look at it, and decide again`);
  }
}
