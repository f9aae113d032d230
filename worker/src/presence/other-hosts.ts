/** What the other hosts of the cluster say of themselves with their heartbeats, as far as this host must know. */

import { type ChangingFacts, type HostFacts, isRoomAwaited, type ModelVersion, missingOfAll, requirementsOf } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";

/** As coordinators judge it: a host whose last beat is older is lost. */
const presentMs = 3_000;

interface OtherHost {
  facts: HostFacts;
  changing: ChangingFacts;
}

/** Ready by their last beat, and not about to leave. */
async function readyOthers(redis: RedisClient, me: string): Promise<OtherHost[]> {
  const others = (await redis.zrange(keys.hosts, "0", "-1")).filter((incarnation) => incarnation !== me);
  const [seconds] = await redis.time();
  const found: OtherHost[] = [];
  for (const incarnation of others) {
    const [state, beat, facts, changing] = await redis.hmget(keys.host(incarnation), "state", "beat", "facts", "changing");
    if (state !== "ready" || !facts || !changing || Number(seconds) * 1_000 - Number(beat) > presentMs) continue;
    const host = { facts: JSON.parse(facts) as HostFacts, changing: JSON.parse(changing) as ChangingFacts };
    if (!host.changing.draining) found.push(host);
  }
  return found;
}

/** Is there another host that may take this queue's jobs and has not failed to load their model? One without room for it now may have some in a moment. */
export async function anotherCanLoad(redis: RedisClient, me: string, version: ModelVersion): Promise<boolean> {
  const others = await readyOthers(redis, me);
  return others.some(({ facts, changing }) => {
    const failure = changing.failures[version.tag];
    return (failure === undefined || isRoomAwaited(failure)) && missingOfAll(facts, requirementsOf(version)).length === 0;
  });
}

/** Other hosts that hold the model loaded. */
export async function othersThatHold(redis: RedisClient, me: string, tag: string): Promise<number> {
  const others = await readyOthers(redis, me);
  return others.filter(({ changing }) => changing.loaded[tag] !== undefined).length;
}
