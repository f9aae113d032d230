/** The reply of HGETALL, and of whatever else answers names and texts by turns, as a map. */

import type { RedisReply } from "@switchyard/protocol/redis";

export function fieldsOf(reply: RedisReply): Map<string, string> {
  const flat = reply as string[];
  const fields = new Map<string, string>();
  for (let at = 0; at < flat.length; at += 2) fields.set(flat[at] as string, flat[at + 1] as string);
  return fields;
}
