/**
 * A connection for commands that make the server hold it (WAIT, WAITAOF): one piece of work at a time, never shared with what must be
 * answered at once. One that fails is thrown away, never mended: what was written on it may be on a server that is no longer asked.
 */

import { SwitchyardError } from "@switchyard/protocol";
import { type RawReply, type RedisCommand, type RedisTarget, sendOnWire, type WireClient } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import { commandClient, socketOf } from "./redis-client.ts";

export class BlockingConnection {
  readonly #redis: ReturnType<typeof commandClient>;
  readonly #clock: Clock;

  constructor(parts: { target: RedisTarget; name: string; clock: Clock }) {
    this.#redis = commandClient(parts.target, parts.name);
    this.#clock = parts.clock;
    this.#redis.on("error", () => {}); // each call tells
  }

  get usable(): boolean {
    return this.#redis.status === "ready";
  }

  /** Connects at the first use. Throws `store_unavailable` when there is no answer within `limitMs`, and is not usable after that. */
  async send(commands: readonly RedisCommand[], limitMs: number): Promise<(RawReply | Error)[]> {
    let stopWatch = (): void => {};
    const late = new Promise<never>((_resolve, reject) => {
      stopWatch = this.#clock.after(limitMs, () => reject(new Error("no answer in time")));
    });
    try {
      return await Promise.race([this.#send(commands), late]);
    } catch {
      this.close();
      throw new SwitchyardError("store_unavailable", "the store does not answer", { retryAfterMs: 1_000 });
    } finally {
      stopWatch();
    }
  }

  async #send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    if (this.#redis.status === "wait") await this.#redis.connect();
    return sendOnWire(this.#redis as unknown as WireClient, commands);
  }

  close(): void {
    const socket = socketOf(this.#redis);
    this.#redis.disconnect();
    socket?.destroy(); // a frozen server would never answer the goodbye
  }
}
