/** Consents to tools in Redis: one hash, an entry each, read anew for every call, so that one that is taken back holds at once. */

import { SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { StoredConsent, ToolConsents } from "../ports/tool-consents.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Names of servers have no slash. */
const fieldOf = (server: string, tool: string): string => `${server}/${tool}`;

export class RedisToolConsents implements ToolConsents {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async get(server: string, tool: string): Promise<StoredConsent | undefined> {
    const [text] = await this.#redis.sendAll([["hget", keys.toolConsents, fieldOf(server, tool)]]);
    return typeof text === "string" ? (JSON.parse(text) as StoredConsent) : undefined;
  }

  async ofServer(server: string, tools: readonly string[]): Promise<Map<string, StoredConsent>> {
    if (tools.length === 0) return new Map();
    const [texts] = await this.#redis.sendAll([["hmget", keys.toolConsents, ...tools.map((tool) => fieldOf(server, tool))]]);
    return new Map(
      (texts as (string | null)[]).flatMap((text, index) =>
        text === null ? [] : [[tools[index]!, JSON.parse(text) as StoredConsent] as const],
      ),
    );
  }

  async change(
    { server, tool }: { server: string; tool: string },
    change: Parameters<ToolConsents["change"]>[1],
  ): Promise<StoredConsent | undefined> {
    const field = fieldOf(server, tool);
    const [read] = await this.#redis.sendAll([["hget", keys.toolConsents, field]]);
    const before = (read as string | null) ?? "";
    const made = change(before === "" ? undefined : (JSON.parse(before) as StoredConsent), this.#redis.nowMs());
    const after = made === undefined ? "" : JSON.stringify(made);
    const stands = await this.#redis.run("put-entry", keys.toolConsents, [field, before, after]);
    if (stands === after) return made;
    throw new SwitchyardError(
      "changed_meanwhile",
      `Somebody else decided about the tool '${tool}' of ${server} meanwhile: look at it, and decide again`,
    );
  }
}
