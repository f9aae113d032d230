/** Statistics on Redis: one hash a queue, written through lua/report and by the scripts that end jobs. */

import { type NumberedTally, type QueueTally, readTally, tallyReports } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { ModelStatistics } from "../ports/model-statistics.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisModelStatistics implements ModelStatistics {
  readonly #redis: RedisConnection;
  readonly #reporter: string;

  /** `reporter`: this process, as no other is called. */
  constructor(redis: RedisConnection, reporter: string) {
    this.#redis = redis;
    this.#reporter = reporter;
  }

  async read(tags: readonly string[]): Promise<Map<string, QueueTally>> {
    if (tags.length === 0) return new Map();
    const replies = await this.#redis.sendAll(tags.map((tag) => ["hgetall", `${keys.base(tag)}tally`]));
    const found = new Map<string, QueueTally>();
    for (const [at, tag] of tags.entries()) {
      const flat = replies[at] as string[];
      if (flat.length > 0) found.set(tag, readTally(flat));
    }
    return found;
  }

  async add(tag: string, { sequence, tally }: NumberedTally): Promise<void> {
    await this.#redis.run("report", keys.base(tag), [this.#reporter, sequence, ...tallyReports(tally).flat()]);
  }
}
