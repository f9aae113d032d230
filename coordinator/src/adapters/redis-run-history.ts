/** The run history on Redis: one hash a queue, written by hosts through lua/report. */

import { type DeviceRuns, readRunReports } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RunHistory } from "../ports/run-history.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisRunHistory implements RunHistory {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async read(tags: readonly string[]): Promise<Map<string, Map<string, DeviceRuns>>> {
    if (tags.length === 0) return new Map();
    const replies = await this.#redis.sendAll(tags.map((tag) => ["hgetall", `${keys.base(tag)}runs`]));
    const found = new Map<string, Map<string, DeviceRuns>>();
    for (const [at, tag] of tags.entries()) {
      const flat = replies[at] as string[];
      if (flat.length > 0) found.set(tag, readRunReports(flat));
    }
    return found;
  }
}
