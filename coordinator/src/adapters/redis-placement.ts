/** The placement board in Redis: a lease of three seconds, and one entry a host, which goes away when nobody plans any more. */

import { keys, type RedisCommand } from "@switchyard/protocol/redis";
import type { HostOrders, PlacementBoard } from "../ports/placement-board.ts";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

const leaseMs = 3_000;
const ordersMs = 10_000;

export class RedisPlacement implements PlacementBoard {
  readonly #redis: RedisConnection;
  readonly #me: string;
  #isMine = false;

  constructor(redis: RedisConnection, me: string) {
    this.#redis = redis;
    this.#me = me;
  }

  /**
   * Two that think so for a moment only write the same plan twice. Who held the lease keeps it in the same write, which may keep it once for
   * whoever has taken it since.
   */
  async lead(): Promise<boolean> {
    const ask: RedisCommand = ["set", keys.placementLease, this.#me, "NX", "GET", "PX", leaseMs];
    const keep: RedisCommand = ["pexpire", keys.placementLease, leaseMs];
    const wasMine = this.#isMine;
    const [holder] = await this.#redis.sendAll(wasMine ? [ask, keep] : [ask]);
    this.#isMine = holder === null || holder === this.#me;
    if (holder === this.#me && !wasMine) await this.#redis.sendAll([keep]);
    return this.#isMine;
  }

  async want(tag: string, forMs: number): Promise<void> {
    await this.#redis.sendAll([["hset", keys.wantedLoads, tag, this.#redis.nowMs() + forMs]]);
  }

  async wanted(): Promise<ReadonlySet<string>> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.wantedLoads]]);
    const tags = fieldsOf(reply!);
    const nowMs = this.#redis.nowMs();
    const over = [...tags].filter(([, untilMs]) => Number(untilMs) < nowMs).map(([tag]) => tag);
    if (over.length > 0) await this.#redis.sendAll([["hdel", keys.wantedLoads, ...over]]);
    for (const tag of over) tags.delete(tag);
    return new Set(tags.keys());
  }

  async publish(orders: ReadonlyMap<string, HostOrders>): Promise<void> {
    if (orders.size === 0) return;
    const fields = [...orders].flatMap(([incarnation, own]) => [incarnation, JSON.stringify(own)]);
    await this.#redis.sendAll([
      ["del", keys.placement],
      ["hset", keys.placement, ...fields],
      ["pexpire", keys.placement, ordersMs],
    ]);
  }
}
