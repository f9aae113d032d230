/** Doors of coordinators on Redis: a string each, which its coordinator writes again and again. */

import { keys } from "@switchyard/protocol/redis";
import type { CoordinatorDoors } from "../ports/coordinator-doors.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** After the last time that it was said. A process that stands still for longer is asked for nothing. */
const keptMs = 10_000;

export class RedisCoordinatorDoors implements CoordinatorDoors {
  readonly me: string;
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection, me: string) {
    this.#redis = redis;
    this.me = me;
  }

  async announce({ host, port }: { host: string; port: number }): Promise<void> {
    await this.#redis.sendAll([["set", keys.door(this.me), `${host} ${port}`, "PX", keptMs]]);
  }

  async placeOf(coordinator: string): Promise<{ host: string; port: number } | undefined> {
    const [text] = (await this.#redis.sendAll([["get", keys.door(coordinator)]])) as (string | null)[];
    const [host, port] = text?.split(" ") ?? [];
    return host === undefined ? undefined : { host, port: Number(port) };
  }
}
