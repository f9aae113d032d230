/**
 * One server's connection, watched: it is asked for its time again and again, and ended when it stops answering, so that a frozen server
 * costs its callers `frozenAfterMs` at most. A connection that was ended from the other side is made anew, which nobody need notice.
 */

import { type RawReply, type RedisCommand, sendOnWire, type WireClient } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { betweenMomentsMs, type Clock, type MomentClock, momentAfter } from "../clock.ts";
import { ClockOffset } from "./clock-offset.ts";
import { socketOf } from "./redis-client.ts";

const pingEveryMs = betweenMomentsMs;
/** Memory is looked at about once a second. */
const memoryEveryPings = 4;
const frozenAfterMs = 2_000;
const openWithinMs = 5_000;
/** How long a connection that was ended may be away before it counts as such: longer than a server that is there needs to take a new one. */
const graceMs = 300;
/** What has been under way for longer is not sent again: its callers are to be told within 2.5 s. */
export const againMs = 200;
/** A single server is given time to load its data; where another can take its place, a handshake that hangs is not waited for. */
const handshakeMs = { alone: 5_000, replaceable: 1_500 };

/** What Redis answers is a ReplyError; anything else is a reply that never came. */
const isCutOff = (reply: RawReply | Error): boolean => reply instanceof Error && reply.name !== "ReplyError";

function filledOf(info: string): number {
  const used = Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0);
  const most = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
  return most > 0 ? used / most : 0;
}

export class RedisLink {
  readonly redis: Redis;
  /** The same, as `sendOnWire` takes it. */
  readonly client: WireClient;
  readonly #clock: Clock & MomentClock;
  readonly #onMark: () => void;
  readonly #onRoundtrip: (ms: number) => void;
  #answering = false;
  #connections = 0;
  readonly #offset = new ClockOffset();
  #filled = 0;
  readonly #handshakeMs: number;
  #handshakePings = 0;
  #pings = 0;
  #stopPing: () => void = () => {};
  #closed = false;
  #lastError: Error | undefined;
  /** Since its end, until it is ready again or too late: whether it was. */
  #back: Promise<boolean> | undefined;

  /** `onMark` is called when it begins or ceases to answer, `onRoundtrip` when it answered a ping; `isReplaceable`: a replica may take its place. */
  constructor(
    redis: Redis,
    parts: { clock: Clock & MomentClock; onMark: () => void; onRoundtrip?: (ms: number) => void; isReplaceable: boolean },
  ) {
    this.redis = redis;
    this.client = redis as unknown as WireClient;
    this.#clock = parts.clock;
    this.#onMark = parts.onMark;
    this.#onRoundtrip = parts.onRoundtrip ?? (() => {});
    this.#handshakeMs = parts.isReplaceable ? handshakeMs.replaceable : handshakeMs.alone;
    redis.on("error", (error: Error) => {
      this.#lastError = error; // failures show in health() and in each call; only the first connection tells its cause
    });
    redis.on("close", () => this.#onClose());
    redis.on("ready", () => {
      this.#connections += 1;
      this.#offset.otherServer();
    });
  }

  /**
   * Sends commands in one write, as `sendOnWire` does. What was under way when the connection was ended is sent once more on the next one:
   * each of our commands may be repeated. Not so where the server stood still: who asked has waited long enough.
   */
  send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    if (this.client.status !== "ready") return this.#sendWhenBack(commands);
    const sentMs = this.#clock.monotonicMs();
    const { stream } = this.client;
    return sendOnWire(this.client, commands).then((replies) => {
      const again = replies.some(isCutOff) && this.#clock.monotonicMs() - sentMs < againMs;
      return again ? this.#sendWhenBack(commands, stream) : replies;
    });
  }

  /** As `send`, but only on the connection that is there now, and never again: undefined where it was cut off, and so may or may not have been done. */
  async sendHere(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[] | undefined> {
    const replies = await sendOnWire(this.client, commands);
    return replies.some(isCutOff) ? undefined : replies;
  }

  /** `cutOff`: the socket on which a reply did not come. */
  async #sendWhenBack(commands: readonly RedisCommand[], cutOff?: WireClient["stream"]): Promise<(RawReply | Error)[]> {
    // replies are rejected before the client's state says why, and that comes before its event
    if (this.client.status !== "ready" || this.client.stream === cutOff) this.#onClose();
    await this.#back;
    return sendOnWire(this.client, commands);
  }

  #onClose(): void {
    // one that answered until now was ended by the other side, or by the way between
    if (!this.#answering || this.#closed) {
      this.#mark(false);
      return;
    }
    if (this.#back !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#back = promise;
    const end = (isBack: boolean): void => {
      stopWatch();
      this.redis.off("ready", onReady);
      this.#back = undefined;
      if (!isBack) this.#mark(false);
      resolve(isBack);
    };
    const onReady = (): void => end(true);
    const stopWatch = this.#clock.after(graceMs, () => end(false));
    this.redis.once("ready", onReady);
  }

  /** Connects and begins to watch; throws the cause when it cannot be used, and then tries no more. */
  async connect(): Promise<void> {
    // a server that accepts and says nothing is as unusable as one that is not there
    const stopWatch = this.#clock.after(openWithinMs, () => {
      this.#lastError ??= new Error(`it did not answer within ${openWithinMs / 1_000} s`);
      this.redis.disconnect();
      socketOf(this.redis)?.destroy();
    });
    try {
      await this.redis.connect();
    } catch (error) {
      this.redis.disconnect();
      throw this.#lastError ?? error;
    } finally {
      stopWatch();
    }
    await this.#ping();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#stopPing = this.#clock.atMoment(momentAfter(this.#clock.monotonicMs(), pingEveryMs), () => {
      void this.#ping().then(() => this.#schedule());
    });
  }

  async #ping(): Promise<void> {
    const socket = socketOf(this.redis);
    if (this.redis.status !== "ready") {
      if (this.#back === undefined) this.#mark(false);
      // a handshake that hangs is as dead as a connection that hangs
      if (this.redis.status === "connect" && ++this.#handshakePings * pingEveryMs > this.#handshakeMs) {
        this.#handshakePings = 0;
        socket?.destroy();
      }
      return;
    }
    this.#handshakePings = 0;
    let isWatched = true;
    const stopTimer = this.#clock.after(frozenAfterMs, () => {
      // a turn later: what came while this process stood still is read by then
      setImmediate(() => {
        if (!isWatched) return;
        this.#mark(false);
        socket?.destroy(); // rejects everything that waits on this connection
      });
    });
    const stopWatch = (): void => {
      isWatched = false;
      stopTimer();
    };
    try {
      const askedMs = this.#clock.monotonicMs();
      const asked = this.redis.time();
      const memory = this.#pings % memoryEveryPings === 0 ? this.redis.info("memory") : undefined;
      memory?.catch(() => {}); // what ends one ends both
      const time = await asked;
      const nowMs = this.#clock.nowMs(); // first, so that a pause between the two readings makes the answer a slow one
      const tookMs = this.#clock.monotonicMs() - askedMs;
      this.#onRoundtrip(tookMs);
      this.#offset.add({ serverMs: Number(time[0]) * 1_000 + Number(time[1]) / 1_000, nowMs, tookMs });
      this.#mark(true);
      if (memory) this.#filled = filledOf(await memory);
      this.#pings++; // not where it failed: memory is to be looked at with the next one then
    } catch {
      if (this.#back === undefined) this.#mark(false);
    } finally {
      stopWatch();
    }
  }

  #mark(answering: boolean): void {
    if (answering === this.#answering) return;
    this.#answering = answering;
    if (!this.#closed) this.#onMark();
  }

  get answering(): boolean {
    return this.#answering;
  }

  /** How often it was connected: each time may have led to another server, or to one that has been started again. */
  get connections(): number {
    return this.#connections;
  }

  /** The server's clock minus ours. */
  get offsetMs(): number {
    return this.#offset.ms;
  }

  /** How full its memory was when last looked at, from 0 to 1; 0 where it has no bound. */
  get filled(): number {
    return this.#filled;
  }

  /** Where it leads, as host:port; of a master that sentinels know, the one of now. */
  get at(): string {
    const { host, port } = this.redis.options;
    const stream = socketOf(this.redis) as { remoteAddress?: string; remotePort?: number } | undefined;
    return stream?.remotePort === undefined ? `${host}:${port}` : `${stream.remoteAddress}:${stream.remotePort}`;
  }

  close(): void {
    this.#closed = true;
    this.#stopPing();
    this.redis.disconnect();
  }
}
