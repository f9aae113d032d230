/** The audit trail in Redis: one stream, an entry for each call and consent. */

import { keys } from "@switchyard/protocol/redis";
import type { AuditEntry, AuditedAct, ToolAudit } from "../ports/tool-audit.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Whole nodes of the stream go, so that a few more may stay. */
const kept = 10_000;

export class RedisToolAudit implements ToolAudit {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async append(act: AuditedAct): Promise<void> {
    await this.#redis.sendAll([["xadd", keys.toolAudit, "MAXLEN", "~", kept, "*", "act", JSON.stringify(act)]]);
  }

  async read({ limit, before }: { limit: number; before?: string }): Promise<AuditEntry[]> {
    const from = before === undefined ? "+" : `(${before}`;
    const [entries] = await this.#redis.sendAll([["xrevrange", keys.toolAudit, from, "-", "COUNT", limit]]);
    return (entries as [id: string, fields: string[]][]).map(([id, fields]) => ({
      ...(JSON.parse(fields[1] ?? "{}") as AuditedAct),
      id,
      atMs: Number(id.split("-", 1)[0]),
    }));
  }
}
