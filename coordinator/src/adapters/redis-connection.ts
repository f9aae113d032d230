/**
 * The coordinator's connections to Redis, in whatever form it runs. Commands fail fast: nothing is queued while a connection is down, and a
 * server that stopped answering costs its callers two seconds at most (redis-link.ts).
 */

import { readFileSync } from "node:fs";
import { SwitchyardError } from "@switchyard/protocol";
import {
  assembleScript,
  ClusterWire,
  keys,
  nodeText,
  type RawReply,
  type RedisCommand,
  type RedisReply,
  type RedisTarget,
  redisPlace,
  replyText,
  type Script,
  type ScriptName,
  scriptNames,
  sendOnWire,
  storeFormat,
} from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import type { Clock, MomentClock } from "../clock.ts";
import { commandClient, socketOf, subscriptionClient } from "./redis-client.ts";
import { againMs, RedisLink } from "./redis-link.ts";

/** How often the masters of a cluster are asked who they are; trouble asks at once. */
const refreshEveryMs = 1_000;
/** A subscription is opened when commands are answered already. */
const openWithinMs = 5_000;

/** Every script of protocol/src/lua, by name. */
export const scripts = new Map<string, Script>();
/** Found once: asked for each of dozens of files, the search took longer than reading them. */
const folder = new URL(".", import.meta.resolve("@switchyard/protocol/lua/admit.lua"));
for (const name of scriptNames) {
  scripts.set(
    name,
    assembleScript(name, (file) => readFileSync(new URL(file, folder), "utf8")),
  );
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

/** One server, or the masters of a cluster: how commands are sent there, and who is watched. */
interface Links {
  send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]>;
  /** Throws the cause when it cannot be used. */
  connect(): Promise<void>;
  /** Those there are now; they never lead to fewer servers than `expected` when all is well. */
  list(): readonly RedisLink[];
  expected(): number;
  close(): void;
}

export class RedisConnection {
  readonly #target: RedisTarget;
  readonly #clock: Clock & MomentClock;
  readonly #links: Links;
  /** Apart from the rest, because every command of the hot path is sent by it. */
  readonly #send: Links["send"];
  #mayTransact: boolean;
  /** Of each script, the last connection to a server that has run it. */
  readonly #ran = new Map<ScriptName, number>();
  #answering = false;
  #changedMs: number;
  #listeners: ((answering: boolean) => void)[] = [];
  #onRoundtrip: (ms: number) => void = () => {};

  constructor(target: RedisTarget, name: string, clock: Clock & MomentClock) {
    this.#target = target;
    this.#clock = clock;
    this.#changedMs = clock.monotonicMs();
    const { form, username = "default" } = redisPlace(target);
    this.#mayTransact = form !== "cluster" && username === "default";
    const isReplaceable = form !== "standalone";
    const onRoundtrip = (ms: number): void => this.#onRoundtrip(ms);
    const watch = (redis: Redis): RedisLink => new RedisLink(redis, { clock, onMark: () => this.#judge(), onRoundtrip, isReplaceable });
    this.#links =
      form === "cluster"
        ? clusterLinks({ target, name, clock, watch, onLooked: () => this.#judge() })
        : oneLink(watch(commandClient(target, name)));
    this.#send = this.#links.send;
  }

  /** Connects and checks the servers; throws a plain sentence when they cannot be used. Answers what an operator should know all the same. */
  async open(): Promise<string[]> {
    await this.connect();
    try {
      const warnings: string[] = [];
      for (const link of this.#links.list()) warnings.push(...serverFaults(await link.redis.info(), `Redis at ${link.at}`));
      await this.#checkFormat(`Redis at ${this.#place()}`);
      return warnings;
    } catch (error) {
      this.#links.close();
      throw error;
    }
  }

  /** Connects, whatever the servers' settings are; throws a plain sentence with its cause. */
  async connect(): Promise<void> {
    try {
      await this.#links.connect();
    } catch (error) {
      this.#links.close();
      const cause = error as Error;
      throw new Error(
        `Redis at ${this.#place()} cannot be used: ${cause.message.replace(/\.$/, "")}. Start it, or correct SWITCHYARD_REDIS_URL (--redis-url).`,
        { cause },
      );
    }
    this.#judge();
  }

  #place(): string {
    return redisPlace(this.#target).nodes.map(nodeText).join(", ");
  }

  /** Throws when the store's keys are laid out otherwise than this version reads them; an empty store is marked. */
  async #checkFormat(server: string): Promise<void> {
    const [models, queues, marked] = await this.sendAll([
      ["exists", keys.models],
      ["exists", keys.queues],
      ["get", keys.format],
    ]);
    // the first layout had no mark
    const before = marked ?? (Number(models) + Number(queues) > 0 ? "1" : null);
    const found = before ?? (await this.sendAll([["set", keys.format, storeFormat, "NX", "GET"]]))[0] ?? storeFormat;
    if (found === storeFormat) return;
    throw new Error(
      `${server} holds jobs in layout ${found}, and this version reads layout ${storeFormat}. Let the other version finish them, then use an empty Redis (or another --data folder).`,
    );
  }

  /** The store answers when every server of it does. */
  #judge(): void {
    const links = this.#links.list();
    const answering = links.length >= this.#links.expected() && links.every((link) => link.answering);
    if (answering === this.#answering) return;
    this.#answering = answering;
    this.#changedMs = this.#clock.monotonicMs();
    for (const listener of this.#listeners) listener(answering);
  }

  /** Every server that takes writes, with what it says to one command; an Error where it refuses. For who looks at the store itself. */
  async askEach(command: RedisCommand): Promise<{ at: string; reply: RedisReply | Error; offsetMs: number }[]> {
    return Promise.all(
      this.#links.list().map(async (link) => {
        const [reply] = await sendOnWire(link.client, [command]);
        return { at: link.at, offsetMs: link.offsetMs, reply: reply instanceof Error ? reply : replyText(reply ?? null) };
      }),
    );
  }

  /** One server, one that sentinels name, or a cluster. */
  get form(): ReturnType<typeof redisPlace>["form"] {
    return redisPlace(this.#target).form;
  }

  onHealth(listener: (answering: boolean) => void): void {
    this.#listeners.push(listener);
  }

  /** Told of every ping: how long a server took to answer it. */
  onRoundtrip(listener: (ms: number) => void): void {
    this.#onRoundtrip = listener;
  }

  /** How full the fullest server's memory was when last looked at, from 0 to 1; 0 where it has no bound. */
  filled(): number {
    let most = 0;
    for (const { filled } of this.#links.list()) most = Math.max(most, filled);
    return most;
  }

  /** `sinceMs`: for how long this has been so. */
  health(): { answering: boolean; sinceMs: number } {
    return { answering: this.#answering, sinceMs: this.#clock.monotonicMs() - this.#changedMs };
  }

  /** The store's clock now; in a cluster, that of one of its masters. */
  nowMs(): number {
    return Math.floor(this.#clock.nowMs() + (this.#links.list()[0]?.offsetMs ?? 0));
  }

  /**
   * The store's clock, asked for: of nothing that depends on this machine's, which may just have been set. In a cluster the earliest of its masters',
   * for what must not be deleted too early.
   */
  async askedNowMs(): Promise<number> {
    const times = (await this.askEach(["time"])).map(({ reply }) => {
      if (reply instanceof Error) throw translate(reply);
      const [seconds, microseconds] = reply as [string, string];
      return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
    });
    if (times.length < this.#links.expected()) throw translate(new Error("not all masters can be asked"));
    return Math.min(...times);
  }

  /** Sends commands in one write and answers their replies in order, texts as strings. */
  async send(commands: readonly RedisCommand[]): Promise<(RedisReply | Error)[]> {
    const replies = await this.#sendRaw(commands);
    return replies.map((reply) => (reply instanceof Error ? reply : replyText(reply)));
  }

  async #sendRaw(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    try {
      return await this.#send(commands);
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
    const connections = this.#links.list()[0]?.connections;
    const replies = await this.#sendRaw([...before, this.script(name, key, args)]);
    let last = replies.pop();
    for (const reply of replies) if (reply instanceof Error) throw translate(reply);
    if (last instanceof Error && last.message.startsWith("NOSCRIPT")) {
      [last] = await this.#sendRaw([["eval", (scripts.get(name) as Script).source, 1, key, ...args]]);
    }
    if (last instanceof Error) throw translate(last);
    if (connections !== undefined) this.#ran.set(name, connections);
    return last ?? null;
  }

  /**
   * As `run`, with commands that are done before it: `together` in one transaction with the script where that is sure to do all or nothing, else `apart`, of
   * which some may be done without it. It is sure on the connection, to one server, that has run the script before, since what is unknown stops no
   * transaction; and for the user without a name, as others are told which commands they may use.
   */
  async runWith(
    name: ScriptName,
    key: string,
    args: readonly (string | number)[],
    before: { together: () => readonly RedisCommand[]; apart: () => readonly RedisCommand[] },
  ): Promise<RedisReply> {
    const [link] = this.#links.list();
    if (!this.#mayTransact || link?.client.status !== "ready" || this.#ran.get(name) !== link.connections) {
      return this.run(name, key, args, before.apart());
    }
    const sentMs = this.#clock.monotonicMs();
    const replies = await link.sendHere([["multi"], ...before.together(), this.script(name, key, args), ["exec"]]);
    // what was cut off was done, or not: done again, it changes nothing. But who waited for a server that stood still has waited long enough
    if (replies === undefined) {
      if (this.#clock.monotonicMs() - sentMs < againMs) return this.run(name, key, args, before.apart());
      throw translate(new Error("the connection was cut off"));
    }
    const done = this.#doneOf(replies);
    if (!(done instanceof Error)) return replyText(done);
    if (done.message.startsWith("NOSCRIPT")) return this.run(name, key, args, before.apart());
    throw translate(done);
  }

  /** What the last command of a transaction came to. Throws why it was given up. */
  #doneOf(replies: readonly (RawReply | Error)[]): RawReply | Error {
    const [multi, ...rest] = replies;
    if (multi instanceof Error) {
      // it may not be used here, and so the others were done one by one
      this.#mayTransact = false;
      return rest.at(-2) ?? null;
    }
    for (const reply of rest) if (reply instanceof Error) throw translate(reply);
    const all = rest.at(-1) as (RawReply | Error)[];
    return all.find((reply) => reply instanceof Error) ?? all.at(-1) ?? null;
  }

  /** Values of keys as bytes, in order. */
  async bytes(wanted: readonly string[]): Promise<(Buffer | null)[]> {
    const [values] = await this.#sendRaw([["mget", ...wanted]]);
    if (values instanceof Error) throw translate(values);
    return values as (Buffer | null)[];
  }

  async close(): Promise<void> {
    this.#links.close();
  }
}

function oneLink(link: RedisLink): Links {
  const links = [link];
  return {
    send: (commands) => link.send(commands),
    connect: () => link.connect(),
    list: () => links,
    expected: () => 1,
    close: () => link.close(),
  };
}

function clusterLinks(parts: {
  target: RedisTarget;
  name: string;
  clock: Clock;
  watch: (redis: Redis) => RedisLink;
  onLooked: () => void;
}): Links {
  const { target, name, clock, watch, onLooked } = parts;
  const { nodes } = redisPlace(target);
  const wire = new ClusterWire({ seeds: nodes, open: (node) => watch(commandClient(target, name, node)) });
  let stop = (): void => {};
  let isClosed = false;
  const refreshLater = (): void => {
    if (isClosed) return;
    stop = clock.after(refreshEveryMs, () => void wire.refresh().then(onLooked).then(refreshLater));
  };
  return {
    send: (commands) => wire.send(commands),
    connect: async () => {
      await wire.connect();
      refreshLater();
    },
    list: () => wire.links(),
    expected: () => wire.masters().length,
    close: () => {
      isClosed = true;
      stop();
      wire.close();
    },
  };
}

/** A connection that only listens. It pings, because an idle subscriber never notices a dead socket. */
export class RedisSubscription {
  readonly #redis: Redis;
  readonly #clock: Clock;
  #stop: () => void = () => {};

  constructor(target: RedisTarget, name: string, clock: Clock) {
    this.#clock = clock;
    this.#redis = subscriptionClient(target, name);
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
    await this.#ready();
    this.#redis.on("messageBuffer", (_channel: Buffer, message: Buffer) => listener(message));
    await this.#redis.subscribe(channel);
  }

  /** The first try may meet a node that is away; the next one goes to another. */
  #ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      let why = new Error("it does not answer");
      const stopWatch = this.#clock.after(openWithinMs, () => reject(why));
      this.#redis.once("ready", () => {
        stopWatch();
        resolve();
      });
      this.#redis.connect().catch((error: Error) => {
        why = error;
      });
    });
  }

  close(): void {
    this.#stop();
    this.#redis.disconnect();
  }
}
