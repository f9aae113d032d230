/** What the other hosts of the cluster say of themselves with their heartbeats, as far as this host must know. */

import type { ChangingFacts } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";

/** As coordinators judge it: a host whose last beat is older is lost. */
const presentMs = 3_000;

/** Is there another host, ready by its last beat, that has not failed to load this queue's model? */
export async function anotherCanLoad(redis: Redis, me: string, tag: string): Promise<boolean> {
  const others = (await redis.zrange(keys.hosts, "0", "-1")).filter((incarnation) => incarnation !== me);
  const [seconds] = await redis.time();
  for (const incarnation of others) {
    const [state, beat, changing] = await redis.hmget(keys.host(incarnation), "state", "beat", "changing");
    if (state !== "ready" || !changing || Number(seconds) * 1_000 - Number(beat) > presentMs) continue;
    const { draining, failures } = JSON.parse(changing) as ChangingFacts;
    if (!draining && failures[tag] === undefined) return true;
  }
  return false;
}
