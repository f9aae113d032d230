/**
 * The credential of hosts: a random token in the store. A host's right to be one is its access to the store, so what it can read there
 * proves it. Asked of the store each time, so that it can be changed there; only values too large for the store are worth the question.
 */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { keys } from "@switchyard/protocol/redis";
import type { HostCredential } from "../ports/host-credential.ts";
import type { RedisConnection } from "./redis-connection.ts";

export class RedisHostToken implements HostCredential {
  readonly #redis: RedisConnection;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  /** Makes a token where there is none. */
  async announce(): Promise<void> {
    await this.#redis.sendAll([["set", keys.hostToken, randomBytes(32).toString("base64url"), "nx"]]);
  }

  async isHost(token: string): Promise<boolean> {
    const [told] = await this.#redis.sendAll([["get", keys.hostToken]]);
    if (typeof told === "string" && told !== "") return isEqual(token, told);
    await this.announce(); // the store lost it; hosts read the new one for their next try
    return false;
  }
}

/** In a time that does not depend on where they differ. */
function isEqual(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
