/** Drains on Redis: one hash, which hosts read with their beats. */

import { keys } from "@switchyard/protocol/redis";
import type { DrainBoard } from "../ports/drain-board.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisDrains implements DrainBoard {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async ask(hostId: string): Promise<void> {
    await this.#redis.sendAll([["hsetnx", keys.drains, hostId, this.#redis.nowMs()]]);
  }

  async lift(hostId: string): Promise<boolean> {
    const [removed] = await this.#redis.sendAll([["hdel", keys.drains, hostId]]);
    return Number(removed) > 0;
  }
}
