/** Consents to tools in Redis: one hash, an entry each, read anew for every call, so that one that is taken back holds at once. */

import { SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import { askedAgain, type Decided, type StoredConsent, type ToolConsents, withAsked } from "../ports/tool-consents.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** Names of servers have no slash and no space. */
const fieldOf = (server: string, tool: string): string => `${server}/${tool}`;
/** Of its own: whoever asks stands in no decision's way. */
const askedFieldOf = (server: string, tool: string): string => `asked ${fieldOf(server, tool)}`;

export class RedisToolConsents implements ToolConsents {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  async get(server: string, tool: string): Promise<StoredConsent | undefined> {
    return (await this.ofServer(server, [tool])).get(tool);
  }

  async ofServer(server: string, tools: readonly string[]): Promise<Map<string, StoredConsent>> {
    if (tools.length === 0) return new Map();
    const fields = tools.flatMap((tool) => [fieldOf(server, tool), askedFieldOf(server, tool)]);
    const [texts] = (await this.#redis.sendAll([["hmget", keys.toolConsents, ...fields]])) as [(string | null)[]];
    return new Map(
      tools.flatMap((tool, index) => {
        const [decided, asked] = [texts[2 * index], texts[2 * index + 1]];
        const stored = withAsked(decided ? (JSON.parse(decided) as Decided) : {}, askedIn(asked));
        return stored ? [[tool, stored] as const] : [];
      }),
    );
  }

  async change(
    { server, tool }: { server: string; tool: string },
    change: Parameters<ToolConsents["change"]>[1],
  ): Promise<StoredConsent | undefined> {
    const field = fieldOf(server, tool);
    const [read] = await this.#redis.sendAll([["hget", keys.toolConsents, field]]);
    const before = (read as string | null) ?? "";
    const made = change(before === "" ? undefined : (JSON.parse(before) as Decided), this.#redis.nowMs());
    const after = made === undefined ? "" : JSON.stringify(made);
    const stands = await this.#redis.run("put-entry", keys.toolConsents, [field, before, after]);
    if (stands !== after) {
      throw new SwitchyardError(
        "changed_meanwhile",
        `Somebody else decided about the tool '${tool}' of ${server} meanwhile: look at it, and decide again`,
      );
    }
    await this.#redis.sendAll([["hdel", keys.toolConsents, askedFieldOf(server, tool)]]);
    return made;
  }

  async ask({ server, tool }: { server: string; tool: string }, by: { by: string; pin: string }): Promise<void> {
    const field = askedFieldOf(server, tool);
    const [before] = await this.#redis.sendAll([["hget", keys.toolConsents, field]]);
    const asked = askedAgain(askedIn(before as string | null), by, this.#redis.nowMs());
    await this.#redis.sendAll([["hset", keys.toolConsents, field, JSON.stringify(asked)]]);
  }
}

function askedIn(text: string | null | undefined): StoredConsent["asked"] {
  return text ? (JSON.parse(text) as NonNullable<StoredConsent["asked"]>) : undefined;
}
