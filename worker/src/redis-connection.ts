/** A host's connections to Redis: they wait and recover. A connection that stays silent while a reply is due is ended and made anew. */

import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import {
  assembleScript,
  type ClusterLink,
  ClusterWire,
  type RawReply,
  type RedisArgument,
  type RedisCommand,
  type RedisNode,
  type RedisReply,
  type RedisTarget,
  redisPlace,
  replyText,
  type Script,
  type ScriptName,
  scriptNames,
  sendOnWire,
  type WireClient,
} from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import type { Clock } from "./clock.ts";
import { type RedisClient, subscriptionClient, waitingClient, wireClient } from "./redis-client.ts";

const scripts = new Map<string, Script>();
/** Found once: asked for each of dozens of files, the search took longer than reading them. */
const folder = new URL(".", import.meta.resolve("@switchyard/protocol/lua/admit.lua"));
for (const name of scriptNames) {
  scripts.set(
    name,
    assembleScript(name, (file) => readFileSync(new URL(file, folder), "utf8")),
  );
}

/** Longer than BullMQ blocks. */
const hostSocketTimeoutMs = 15_000;

/** For all but claims, see redis-client.ts. */
export function hostConnection(target: RedisTarget, name: string): RedisClient {
  const redis = waitingClient(target, name, hostSocketTimeoutMs);
  redis.on("error", () => {}); // each reconnects by itself; presence decides what a long silence means
  return redis;
}

/** For what is published. */
export function hostSubscription(target: RedisTarget, name: string): Redis {
  const redis = subscriptionClient(target, name);
  redis.on("error", () => {}); // it reconnects by itself, and what is missed meanwhile is found by looking
  return redis;
}

/** For `sendTogether`. */
export type RedisWire = Redis | RunnerCluster;

export function wireConnection(target: RedisTarget, name: string): RedisWire {
  if (redisPlace(target).form === "cluster") return new RunnerCluster(target, name);
  const redis = wireClient(target, name);
  redis.on("error", () => {}); // the caller sees each failure, and tries again
  return redis;
}

interface NodeLink extends ClusterLink {
  redis: Redis;
  /** Ends its watch. */
  onClose: () => void;
}

/** The runner's links to the masters of a cluster, in the place of its one connection. */
export class RunnerCluster {
  readonly #wire: ClusterWire<NodeLink>;
  #watch: (redis: Redis) => () => void = () => () => {};

  constructor(target: RedisTarget, name: string) {
    const open = (node: RedisNode): NodeLink => this.#open(wireClient(target, name, node));
    this.#wire = new ClusterWire({ seeds: redisPlace(target).nodes, open });
    void this.#wire.refresh(); // whoever sends before it is there is told, and tries again
  }

  #open(redis: Redis): NodeLink {
    redis.on("error", () => {}); // the caller sees each failure, and tries again
    const link: NodeLink = {
      redis,
      client: redis as unknown as WireClient,
      send: (commands) => sendOnWire(link.client, commands), // the runner counts its tries, and repeats what got no reply
      connect: () => redis.connect(),
      onClose: this.#watch(redis),
      close() {
        link.onClose();
        redis.disconnect();
      },
    };
    return link;
  }

  /** Puts a watch on every link there is and will be. */
  watch(watch: (redis: Redis) => () => void): void {
    this.#watch = watch;
    for (const link of this.#wire.links()) link.onClose = watch(link.redis);
  }

  send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    return this.#wire.send(commands);
  }

  /** Teaches all masters these scripts. */
  async teach(sources: readonly string[]): Promise<void> {
    const commands = sources.map((source): RedisCommand => ["script", "LOAD", source]);
    await Promise.all(this.#wire.links().map((link) => sendOnWire(link.client, commands).catch(() => {}))); // one that is away is taught later
  }

  async get(key: string): Promise<string | null> {
    const [reply] = await this.#wire.send([["get", key]]);
    if (reply instanceof Error) throw reply;
    return replyText(reply ?? null) as string | null;
  }

  disconnect(): void {
    this.#wire.close();
  }
}

const stepMs = 1_000;

/** A handshake is short, and whoever accepts and says nothing for so long is asked anew: the way may be there again by then. */
const handshakeMs = 2_000;

const uploadMs = 15_000;

export interface SilenceLimits {
  /** How long a reply may be due while no byte moves. */
  limitMs: number;
  pingEveryMs: number;
}

/**
 * How long silence is borne. Where another server can take the place of one that is frozen, a host must be there before it is missed (its
 * presence lasts 3 s, and coordinators judge it 6 s after they have found the new master). A single server has nobody to leave it for, but the way to it may be dead.
 */
export function silenceLimits(target: RedisTarget): SilenceLimits {
  if (redisPlace(target).form === "standalone") return { limitMs: 4_000, pingEveryMs: 2_000 };
  return { limitMs: 2_000, pingEveryMs: 1_000 };
}

/**
 * Pings a connection, and ends one that owes a reply, or its handshake, while no byte has moved for so long: a frozen server or a
 * dead path. It then rejects what waits and connects anew. Silence is counted in steps, so that a thread that was blocked has read what
 * came meanwhile before it judges. Answers the end of the watch.
 */
export function endWhenSilent(redis: RedisWire, clock: Pick<Clock, "after">, limits: SilenceLimits): () => void {
  if (redis instanceof RunnerCluster) {
    redis.watch((one) => endWhenSilent(one, clock, limits));
    return () => {}; // each watch ends with its link
  }
  let [steps, quietSteps, moved, isOwed] = [0, 0, "", false];
  let stop = (): void => {};
  const step = (): void => {
    const { stream, status } = redis as unknown as { stream?: Socket; status: string };
    steps += 1;
    const movedNow = `${stream?.bytesRead} ${stream?.writableLength}`;
    const isQuiet = movedNow === moved && (status === "connect" || (status === "ready" && isOwed));
    moved = movedNow;
    quietSteps = isQuiet ? quietSteps + 1 : 0;
    // what is being sent is not counted while it is under way: a large value takes its time, and looks like silence
    const limitMs = stream?.writableLength ? Math.max(uploadMs, limits.limitMs) : limits.limitMs;
    if (quietSteps * stepMs >= (status === "connect" ? Math.min(handshakeMs, limitMs) : limitMs)) {
      quietSteps = 0;
      stream?.destroy();
    }
    if (status === "ready" && !isOwed && (steps * stepMs) % limits.pingEveryMs === 0) {
      isOwed = true;
      const paid = (): void => {
        isOwed = false;
      };
      redis.ping().then(paid, paid);
    }
    stop = clock.after(stepMs, step);
  };
  stop = clock.after(stepMs, step);
  return () => stop();
}

/** Keeps the host's main connection from waiting at a frozen server while another has taken its place, or on a way that is dead. */
export function leaveFrozenServers(redis: RedisClient, target: RedisTarget, clock: Pick<Clock, "after">): void {
  const limits = silenceLimits(target);
  if ("nodes" in redis) {
    const watch = (node: Redis): void => {
      node.once("end", endWhenSilent(node, clock, limits));
    };
    redis.on("+node", watch);
    for (const node of redis.nodes()) watch(node);
  } else endWhenSilent(redis, clock, limits);
}

/**
 * Whether a command may read keys that it does not name: of one server, by the user that has no name. Users of their own are told which keys
 * they may name, and each of their refusals is logged.
 */
export function mayReadUnnamed(redis: RedisWire): boolean {
  return !(redis instanceof RunnerCluster) && (redis.options.username || "default") === "default";
}

/** The command that runs a script on one key. */
export function scriptCommand(name: ScriptName, key: string, args: readonly RedisArgument[]): RedisCommand {
  return ["evalsha", (scripts.get(name) as Script).sha, 1, key, ...args];
}

/**
 * Sends commands in one write. When the server has forgotten a script (restart, SCRIPT FLUSH) it is taught those that are in the way, and everything
 * from that command on is sent again: each of our commands may be repeated, and their order must hold. Replies may be errors.
 */
export async function sendTogether(redis: RedisWire, commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
  const isCluster = redis instanceof RunnerCluster;
  const answers = await (isCluster ? redis.send(commands) : sendOnWire(redis as unknown as WireClient, commands));
  const forgotten = answers.findIndex((answer) => answer instanceof Error && answer.message.startsWith("NOSCRIPT"));
  if (forgotten === -1) return answers;
  const named = new Set<unknown>(commands.map(([, sha]) => sha));
  const sources = [...scripts.values()].filter(({ sha }) => named.has(sha)).map(({ source }) => source);
  if (isCluster) await redis.teach(sources);
  else await Promise.all(sources.map((source) => redis.script("LOAD", source)));
  return [...answers.slice(0, forgotten), ...(await sendTogether(redis, commands.slice(forgotten)))];
}

/** Runs one script, waiting for the connection if need be; throws what Redis answered when it is an error. */
export async function runScript(
  redis: RedisClient,
  name: ScriptName,
  key: string,
  args: readonly (string | number)[],
): Promise<RedisReply> {
  const { sha, source } = scripts.get(name) as Script;
  try {
    return (await redis.evalsha(sha, 1, key, ...args)) as RedisReply;
  } catch (error) {
    if (!(error as Error).message.startsWith("NOSCRIPT")) throw error;
    return (await redis.eval(source, 1, key, ...args)) as RedisReply;
  }
}
