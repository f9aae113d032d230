/** What INFO of each Redis server says, as figures. */

import type { StoreFigures, StoreServerFigures } from "../ports/store-figures.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisServerFigures implements StoreFigures {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async servers(): Promise<StoreServerFigures[]> {
    const answers = await this.#redis.askEach(["info"]);
    return answers.flatMap(({ at, reply }) => (typeof reply === "string" ? [figuresIn(reply, at)] : []));
  }
}

/** Pure. A field that a server does not know counts as 0. */
export function figuresIn(info: string, server: string): StoreServerFigures {
  const fields = new Map([...info.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name, value]) => [name!, value!]));
  const number = (name: string): number => Number(fields.get(name) ?? 0) || 0;
  const offset = number("master_repl_offset");
  const lags = [...fields].flatMap(([name, value]) => {
    const seen = /^slave\d+$/.test(name) ? /offset=(\d+)/.exec(value)?.[1] : undefined;
    return seen === undefined ? [] : [Math.max(0, offset - Number(seen))];
  });
  const keys = [...fields].flatMap(([name, value]) => (/^db\d+$/.test(name) ? [Number(/keys=(\d+)/.exec(value)?.[1] ?? 0)] : []));
  return {
    server,
    uptimeSeconds: number("uptime_in_seconds"),
    clients: number("connected_clients"),
    rejectedConnections: number("rejected_connections"),
    memoryBytes: number("used_memory"),
    memoryLimitBytes: number("maxmemory"),
    evictedKeys: number("evicted_keys"),
    keys: keys.reduce((sum, count) => sum + count, 0),
    commands: number("total_commands_processed"),
    cpuSeconds: number("used_cpu_sys") + number("used_cpu_user"),
    receivedBytes: number("total_net_input_bytes"),
    sentBytes: number("total_net_output_bytes"),
    appendOnlyWritten: number("aof_enabled") === 0 ? undefined : fields.get("aof_last_write_status") === "ok",
    replicas: number("connected_slaves"),
    replicaLagBytes: lags.length === 0 ? undefined : Math.max(...lags),
  };
}
