/**
 * Hashes whose entries several coordinators change: whoever changes one says what it was, and is told when that is no longer so. Each hash has a
 * counter, raised after every change, so that nobody reads what has not changed.
 */

import { randomBytes } from "node:crypto";
import { SwitchyardError } from "@switchyard/protocol";
import { keys, type LifecycleHash, type RedisCommand } from "@switchyard/protocol/redis";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

/** Raised once too often does no harm. */
export function raise(hash: LifecycleHash): RedisCommand[] {
  return [
    ["hincrby", keys.lifecycleRevisions, hash, "1"],
    ["incr", keys.lifecycleRevision],
  ];
}

/** An entry as it was stored, without the change that wrote it. */
export function entryIn<Entry>(text: string): Entry {
  const { changeId: _change, ...entry } = JSON.parse(text);
  return entry as Entry;
}

/** All entries of one hash, parsed once each. */
export class RedisEntries<Entry> {
  readonly #redis: RedisConnection;
  readonly #hash: LifecycleHash;
  readonly #parse: (text: string) => Entry | undefined;
  #texts = new Map<string, string>();
  #entries: ReadonlyMap<string, Entry> = new Map();

  /** `parse` answers undefined for what is to be left out. */
  constructor(redis: RedisConnection, hash: LifecycleHash, parse: (text: string) => Entry | undefined = entryIn) {
    this.#redis = redis;
    this.#hash = hash;
    this.#parse = parse;
  }

  /** By field: the same map as long as nothing has changed, and the same object as long as its entry has not. */
  async read(): Promise<ReadonlyMap<string, Entry>> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys[this.#hash]]]);
    const texts = fieldsOf(reply!);
    const isSame = texts.size === this.#texts.size && [...texts].every(([field, text]) => this.#texts.get(field) === text);
    if (isSame) return this.#entries;
    const entries = new Map<string, Entry>();
    for (const [field, text] of texts) {
      const entry = this.#texts.get(field) === text ? this.#entries.get(field) : this.#parse(text);
      if (entry !== undefined) entries.set(field, entry);
    }
    this.#texts = texts;
    this.#entries = entries;
    return entries;
  }
}

/**
 * Makes of an entry what `change` makes of it, and tells all coordinators to look. `what`: how a refusal names it. Two changes that come to the same
 * are two all the same, and the later one is refused: whoever rolls back must know whether it was this call that did. So what is stored says which change wrote it.
 */
export async function changeEntry<Entry extends object>(
  redis: RedisConnection,
  of: { hash: LifecycleHash; field: string; what: string },
  change: (before: Entry | undefined, nowMs: number) => Entry | undefined,
): Promise<Entry | undefined> {
  const { field, hash, what } = of;
  const key = keys[hash];
  const [read] = await redis.sendAll([["hget", key, field]]);
  const before = (read as string | null) ?? "";
  const found = before === "" ? undefined : entryIn<Entry>(before);
  const made = change(found, redis.nowMs());
  const after = made === undefined ? "" : made === found ? before : JSON.stringify({ ...made, changeId: randomBytes(8).toString("hex") });
  const stands = await redis.run("put-entry", key, [field, before, after]);
  await redis.sendAll(raise(hash));
  if (stands === after) return made;
  throw new SwitchyardError("changed_meanwhile", `Somebody else changed ${what} meanwhile: look at it, and decide again`);
}
