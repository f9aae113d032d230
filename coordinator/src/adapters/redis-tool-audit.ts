/** The audit trail in Redis: a stream of calls and one of consents, so that no number of calls pushes out who consented. Read as one. */

import { keys } from "@switchyard/protocol/redis";
import type { AuditEntry, AuditedAct, ToolAudit } from "../ports/tool-audit.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Of each stream. Whole nodes go, so that a few more may stay. */
const kept = 10_000;
const streams = { call: keys.toolAudit, consent: keys.toolConsentAudit };

export class RedisToolAudit implements ToolAudit {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async append(act: AuditedAct): Promise<void> {
    await this.#redis.sendAll([["xadd", streams[act.event], "MAXLEN", "~", kept, "*", "act", JSON.stringify(act)]]);
  }

  async read({ limit, before }: { limit: number; before?: string }): Promise<AuditEntry[]> {
    const from = before === undefined ? "+" : `(${before}`;
    const found = (await this.#redis.sendAll([
      ["xrevrange", streams.call, from, "-", "COUNT", limit],
      ["xrevrange", streams.consent, from, "-", "COUNT", limit],
    ])) as [id: string, fields: string[]][][];
    const entries = found.flat().map(([id, fields]): AuditEntry & { number: number } => {
      const [atMs, number] = id.split("-").map(Number) as [number, number];
      return { ...(JSON.parse(fields[1] ?? "{}") as AuditedAct), id, atMs, number };
    });
    entries.sort((one, other) => other.atMs - one.atMs || other.number - one.number);
    return entries.slice(0, limit).map(({ number: _, ...entry }) => entry);
  }
}
