/**
 * The shared secret: one entry in the store, written by whichever coordinator finds none. Read again every minute in which it is used, and put
 * back when the store has lost it, so that what was signed with it stays good.
 */

import { createHmac, randomBytes } from "node:crypto";
import { keys } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { SharedSecret } from "../ports/shared-secret.ts";
import type { RedisConnection } from "./redis-connection.ts";

const readAgainMs = 60_000;

export class RedisSharedSecret implements SharedSecret {
  readonly #redis: Pick<RedisConnection, "sendAll">;
  readonly #clock: Pick<Clock, "monotonicMs">;
  #known: { secret: string; readMs: number } | undefined;

  constructor(redis: Pick<RedisConnection, "sendAll">, clock: Pick<Clock, "monotonicMs">) {
    this.#redis = redis;
    this.#clock = clock;
  }

  async key(purpose: string): Promise<Uint8Array> {
    return createHmac("sha256", await this.#secret())
      .update(purpose)
      .digest();
  }

  async #secret(): Promise<string> {
    const known = this.#known;
    const nowMs = this.#clock.monotonicMs();
    if (known && nowMs - known.readMs < readAgainMs) return known.secret;
    const mine = known?.secret ?? randomBytes(32).toString("base64url");
    try {
      const [stands] = await this.#redis.sendAll([["set", keys.sharedSecret, mine, "NX", "GET"]]);
      const secret = typeof stands === "string" && stands !== "" ? stands : mine;
      this.#known = { secret, readMs: nowMs };
      return secret;
    } catch (error) {
      if (!known) throw error;
      this.#known = { ...known, readMs: nowMs };
      return known.secret;
    }
  }
}
