/** The secret in the store, made by whichever coordinator finds none, and read again only now and then: it changes when the store lost it. */

import { randomBytes } from "node:crypto";
import { SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { SharedSecret } from "../ports/shared-secret.ts";
import type { RedisConnection } from "./redis-connection.ts";

const knownForMs = 10_000;

export class RedisSharedSecret implements SharedSecret {
  readonly #redis: RedisConnection;
  readonly #clock: Pick<Clock, "monotonicMs">;
  #known: { secret: Uint8Array; readMs: number } | undefined;

  constructor(redis: RedisConnection, clock: Pick<Clock, "monotonicMs">) {
    this.#redis = redis;
    this.#clock = clock;
  }

  async read(): Promise<Uint8Array> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#known && nowMs - this.#known.readMs < knownForMs) return this.#known.secret;
    const [, told] = await this.#redis.sendAll([
      ["set", keys.sharedSecret, randomBytes(32).toString("base64url"), "nx"],
      ["get", keys.sharedSecret],
    ]);
    if (typeof told !== "string" || told === "")
      throw new SwitchyardError("store_unavailable", "the store does not tell its secret; try again");
    const secret = Buffer.from(told, "base64url");
    this.#known = { secret, readMs: nowMs };
    return secret;
  }
}
