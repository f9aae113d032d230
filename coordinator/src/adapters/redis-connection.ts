/**
 * The coordinator's connections to Redis. Commands fail fast: nothing is queued while the connection is down, and a watchdog ends a
 * connection that stopped answering, so that a frozen server costs its callers `frozenAfterMs` at most.
 */

import { readFileSync } from "node:fs";
import { SwitchyardError } from "@switchyard/protocol";
import {
  assembleScript,
  keys,
  type RawReply,
  type RedisCommand,
  type RedisReply,
  replyText,
  type Script,
  type ScriptName,
  scriptNames,
  sendOnWire,
  storeFormat,
  type WireClient,
} from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import type { Clock } from "../clock.ts";

const pingEveryMs = 250;
/** Memory is looked at once a second. */
const memoryEveryPings = 4;
const frozenAfterMs = 2_000;
const openWithinMs = 5_000;

/** Every script of protocol/src/lua, by name. */
export const scripts = new Map<string, Script>();
for (const name of scriptNames) {
  scripts.set(
    name,
    assembleScript(name, (file) => readFileSync(new URL(import.meta.resolve(`@switchyard/protocol/lua/${file}`)), "utf8")),
  );
}

/** For connections whose commands fail fast. They are looked after by whoever asks for one. */
export function connect(url: string, name: string): Redis {
  return new Redis(url, {
    protocol: 2,
    lazyConnect: true,
    connectionName: name,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 2_000,
    keepAlive: 5_000,
    noDelay: true,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000),
    reconnectOnError: (error) => (/^(READONLY|UNBLOCKED)/.test(error.message) ? 1 : false),
  });
}

/** What a foreign error means here. Errors of our own scripts stay what they are: bugs. */
function translate(error: Error): Error {
  if (/^OOM|maxmemory/.test(error.message)) {
    return new SwitchyardError("store_full", "the store has no memory left; try again later", { retryAfterMs: 1_000 });
  }
  if (/^ERR|^WRONGTYPE|^CROSSSLOT|^NOPERM|Error running script|user_script/.test(error.message)) return error;
  return new SwitchyardError("store_unavailable", "the store does not answer; the job may exist: repeat with the same idempotency key", {
    retryAfterMs: 1_000,
  });
}

/** Throws when the server would lose jobs by its configuration; answers warnings. `info` is what INFO says. */
function serverFaults(info: string, server: string): string[] {
  const facts = new Map(info.split(/\r?\n/).map((line) => line.split(":", 2) as [string, string]));
  const policy = facts.get("maxmemory_policy");
  if (policy !== undefined && policy !== "noeviction") {
    throw new Error(`${server} may drop jobs when its memory is full: maxmemory-policy is ${policy}, expected noeviction.`);
  }
  return facts.get("aof_enabled") === "0" ? [`${server} keeps no append-only file (appendonly no): a restart of it loses every job`] : [];
}

function filledOf(info: string): number {
  const used = Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0);
  const most = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
  return most > 0 ? used / most : 0;
}

export function socketOf(redis: Redis): { destroy(): void } | undefined {
  return (redis as unknown as { stream?: { destroy(): void } }).stream;
}

export class RedisConnection {
  readonly redis: Redis;
  readonly #clock: Clock;
  #answering = false;
  #changedMs: number;
  /** The store's clock minus ours. */
  #offsetMs = 0;
  #handshakePings = 0;
  #pings = 0;
  #filled = 0;
  #stopPing: () => void = () => {};
  #closed = false;
  #lastError: Error | undefined;
  #listeners: ((answering: boolean) => void)[] = [];

  constructor(url: string, name: string, clock: Clock) {
    this.#clock = clock;
    this.#changedMs = clock.monotonicMs();
    this.redis = connect(url, name);
    this.redis.on("error", (error: Error) => {
      this.#lastError = error; // failures show in health() and in each call; only the first connection tells its cause
    });
    this.redis.on("close", () => this.#mark(false));
  }

  /** Connects and checks the server; throws a plain sentence when it cannot be used. Answers what an operator should know all the same. */
  async open(): Promise<string[]> {
    const { host, port } = this.redis.options;
    // a server that accepts and says nothing is as unusable as one that is not there
    const stopWatch = this.#clock.after(openWithinMs, () => {
      this.#lastError = new Error(`it did not answer within ${openWithinMs / 1_000} s`);
      this.redis.disconnect();
      socketOf(this.redis)?.destroy();
    });
    try {
      await this.redis.connect();
      stopWatch();
    } catch (error) {
      stopWatch();
      this.redis.disconnect();
      const cause = this.#lastError ?? (error as Error);
      throw new Error(
        `Redis at ${host}:${port} cannot be used: ${cause.message}. Start it, or correct SWITCHYARD_REDIS_URL (--redis-url).`,
        { cause },
      );
    }
    await this.#ping();
    try {
      const warnings = serverFaults(await this.redis.info(), `Redis at ${host}:${port}`);
      await this.#checkFormat(`Redis at ${host}:${port}`);
      this.#schedule();
      return warnings;
    } catch (error) {
      this.redis.disconnect();
      throw error;
    }
  }

  /** Throws when the store's keys are laid out otherwise than this version reads them; an empty store is marked. */
  async #checkFormat(server: string): Promise<void> {
    // the first layout had no mark
    const isOld = (await this.redis.exists(keys.models, keys.queues)) > 0;
    const before = (await this.redis.get(keys.format)) ?? (isOld ? "1" : undefined);
    const found = before ?? (await this.redis.set(keys.format, storeFormat, "NX", "GET")) ?? storeFormat;
    if (found === storeFormat) return;
    throw new Error(
      `${server} holds jobs in layout ${found}, and this version reads layout ${storeFormat}. Let the other version finish them, then use an empty Redis (or another --data folder).`,
    );
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#stopPing = this.#clock.after(pingEveryMs, () => {
      void this.#ping().then(() => this.#schedule());
    });
  }

  async #ping(): Promise<void> {
    const socket = socketOf(this.redis);
    if (this.redis.status !== "ready") {
      this.#mark(false);
      // a handshake that hangs is as dead as a connection that hangs
      if (this.redis.status === "connect" && ++this.#handshakePings * pingEveryMs > 5_000) {
        this.#handshakePings = 0;
        socket?.destroy();
      }
      return;
    }
    this.#handshakePings = 0;
    const stopWatch = this.#clock.after(frozenAfterMs, () => {
      this.#mark(false);
      socket?.destroy(); // rejects everything that waits on this connection
    });
    try {
      const time = await this.redis.time();
      this.#offsetMs = Number(time[0]) * 1_000 + Number(time[1]) / 1_000 - this.#clock.nowMs();
      this.#mark(true);
      if (this.#pings++ % memoryEveryPings === 0) this.#filled = filledOf(await this.redis.info("memory"));
    } catch {
      this.#mark(false);
    } finally {
      stopWatch();
    }
  }

  #mark(answering: boolean): void {
    if (answering === this.#answering) return;
    this.#answering = answering;
    this.#changedMs = this.#clock.monotonicMs();
    for (const listener of this.#listeners) listener(answering);
  }

  onHealth(listener: (answering: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** How full its memory was when last looked at, from 0 to 1; 0 where it has no bound. */
  filled(): number {
    return this.#filled;
  }

  /** `sinceMs`: for how long this has been so. */
  health(): { answering: boolean; sinceMs: number } {
    return { answering: this.#answering, sinceMs: this.#clock.monotonicMs() - this.#changedMs };
  }

  /** The store's clock now. */
  nowMs(): number {
    return Math.floor(this.#clock.nowMs() + this.#offsetMs);
  }

  /** Sends commands in one write and answers their replies in order, texts as strings. */
  async send(commands: readonly RedisCommand[]): Promise<(RedisReply | Error)[]> {
    const replies = await this.#sendRaw(commands);
    return replies.map((reply) => (reply instanceof Error ? reply : replyText(reply)));
  }

  async #sendRaw(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    try {
      return await sendOnWire(this.redis as unknown as WireClient, commands);
    } catch (error) {
      throw translate(error as Error);
    }
  }

  /** As `send`, but the first error among the replies is thrown, translated. */
  async sendAll(commands: readonly RedisCommand[]): Promise<RedisReply[]> {
    const replies = await this.send(commands);
    for (const reply of replies) if (reply instanceof Error) throw translate(reply);
    return replies as RedisReply[];
  }

  /** As `sendAll`; texts are bytes. */
  async sendAllRaw(commands: readonly RedisCommand[]): Promise<RawReply[]> {
    const replies = await this.#sendRaw(commands);
    for (const reply of replies) if (reply instanceof Error) throw translate(reply);
    return replies as RawReply[];
  }

  /** The command that runs a script on one queue (or host) key, for `send`. */
  script(name: ScriptName, key: string, args: readonly (string | number)[]): RedisCommand {
    return ["evalsha", (scripts.get(name) as Script).sha, 1, key, ...args];
  }

  /** Runs one script. A server that forgot it (restart, SCRIPT FLUSH) is taught again. `before` are plain commands of the same write. */
  async run(name: ScriptName, key: string, args: readonly (string | number)[], before: readonly RedisCommand[] = []): Promise<RedisReply> {
    return replyText(await this.runRaw(name, key, args, before));
  }

  /** As `run`; texts are bytes. */
  async runRaw(name: ScriptName, key: string, args: readonly (string | number)[], before: readonly RedisCommand[] = []): Promise<RawReply> {
    const replies = await this.#sendRaw([...before, this.script(name, key, args)]);
    let last = replies.pop();
    for (const reply of replies) if (reply instanceof Error) throw translate(reply);
    if (last instanceof Error && last.message.startsWith("NOSCRIPT")) {
      [last] = await this.#sendRaw([["eval", (scripts.get(name) as Script).source, 1, key, ...args]]);
    }
    if (last instanceof Error) throw translate(last);
    return last ?? null;
  }

  /** Values of keys as bytes, in order. */
  async bytes(wanted: readonly string[]): Promise<(Buffer | null)[]> {
    const [values] = await this.#sendRaw([["mget", ...wanted]]);
    if (values instanceof Error) throw translate(values);
    return values as (Buffer | null)[];
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stopPing();
    this.redis.disconnect();
  }
}

/** A connection that only listens. It pings, because an idle subscriber never notices a dead socket. */
export class RedisSubscription {
  readonly #redis: Redis;
  #stop: () => void = () => {};

  constructor(url: string, name: string, clock: Clock) {
    this.#redis = connect(url, name);
    this.#redis.on("error", () => {});
    const beat = (): void => {
      this.#stop = clock.after(5_000, () => {
        const socket = socketOf(this.#redis);
        if (this.#redis.status === "ready") {
          const stopWatch = clock.after(3_000, () => socket?.destroy());
          this.#redis.ping().then(stopWatch, stopWatch);
        } else if (this.#redis.status === "connect") {
          socket?.destroy(); // a handshake that has not ended since the last beat never will
        }
        beat();
      });
    };
    beat();
  }

  async open(channel: string, listener: (message: Buffer) => void): Promise<void> {
    await this.#redis.connect();
    this.#redis.on("messageBuffer", (_channel: Buffer, message: Buffer) => listener(message));
    await this.#redis.subscribe(channel);
  }

  close(): void {
    this.#stop();
    this.#redis.disconnect();
  }
}
