/** The figure board on Redis: one hash a slot, a field a coordinator. */

import { keys } from "@switchyard/protocol/redis";
import type { FigureBoard } from "../ports/figure-board.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Longer than the longest series that is shown. */
const keptMs = 600_000;

export class RedisFigures implements FigureBoard {
  readonly #redis: RedisConnection;
  readonly #me: string;

  /** `me`: this process, as no other is called. */
  constructor(redis: RedisConnection, me: string) {
    this.#redis = redis;
    this.#me = me;
  }

  async leave(slot: number, text: string): Promise<void> {
    const key = keys.figures(slot);
    await this.#redis.sendAll([
      ["hset", key, this.#me, text],
      ["pexpire", key, keptMs],
    ]);
  }

  async read(slots: readonly number[]): Promise<string[][]> {
    if (slots.length === 0) return [];
    return (await this.#redis.sendAll(slots.map((slot) => ["hvals", keys.figures(slot)]))) as string[][];
  }
}
