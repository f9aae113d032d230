/** Hashes whose entries several coordinators change: whoever changes one says what it was, and is told when that is no longer so. */

import { SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisConnection } from "./redis-connection.ts";

/** All entries, parsed. */
export async function entriesOf<Entry>(redis: RedisConnection, key: string): Promise<[field: string, entry: Entry][]> {
  const [reply] = await redis.sendAll([["hgetall", key]]);
  const flat = reply as string[];
  return flat.flatMap((field, at) => (at % 2 === 0 ? [[field, JSON.parse(flat[at + 1] as string) as Entry]] : []));
}

/** Makes of an entry what `change` makes of it, and tells all coordinators to look. `what`: how a refusal names it. */
export async function changeEntry<Entry>(
  redis: RedisConnection,
  of: { key: string; field: string; what: string },
  change: (before: Entry | undefined, nowMs: number) => Entry | undefined,
): Promise<Entry | undefined> {
  const { field, key, what } = of;
  const [read] = await redis.sendAll([["hget", key, field]]);
  const before = (read as string | null) ?? "";
  const made = change(before === "" ? undefined : (JSON.parse(before) as Entry), redis.nowMs());
  const after = made === undefined ? "" : JSON.stringify(made);
  const stands = await redis.run("put-entry", key, [field, before, after]);
  await redis.sendAll([["incr", keys.lifecycleRevision]]);
  if (stands === after) return made;
  throw new SwitchyardError("changed_meanwhile", `Somebody else changed ${what} meanwhile: look at it, and decide again`);
}
