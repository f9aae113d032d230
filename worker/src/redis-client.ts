/**
 * Builds a host's clients of Redis, whatever its form: the only file that loads their library. A client is made for a purpose, which
 * decides how it fails; who gets one owns it.
 */

import type { Socket } from "node:net";
import { type RedisNode, type RedisTarget, redisPlace } from "@switchyard/protocol/redis";
import { Cluster, Redis, type RedisOptions } from "ioredis";

export type RedisClient = Redis | Cluster;

/** What a purpose decides. */
type Manner = Pick<
  RedisOptions,
  | "autoResendUnfulfilledCommands"
  | "connectionName"
  | "connectTimeout"
  | "enableOfflineQueue"
  | "keepAlive"
  | "lazyConnect"
  | "maxRetriesPerRequest"
  | "noDelay"
  | "protocol"
  | "reconnectOnError"
  | "retryStrategy"
  | "socketTimeout"
>;

/** A sentinel, or a node of a cluster, that says nothing for so long is passed over. */
const connectTimeoutMs = 5_000;
/** Answers "who is the master" within a moment, or is frozen. */
const sentinelTimeoutMs = 2_000;
/** How long a command of a cluster's client waits before it is tried again, while a replica takes a dead master's place. */
const failoverRetryMs = 300;

const usual = {
  protocol: 2,
  connectTimeout: connectTimeoutMs,
  keepAlive: 5_000,
  noDelay: true,
} satisfies Manner;

const refusals = /^(READONLY|UNBLOCKED)/;
const retryStrategy = (attempt: number): number => Math.min(50 * 2 ** Math.min(attempt, 5), 1_000);

/** Who we are to the servers, and how the way to them is kept secret. */
function credentials(target: RedisTarget): Pick<RedisOptions, "password" | "tls" | "username"> {
  const { username, password, tls, tlsFiles } = redisPlace(target);
  return { ...(username && { username }), ...(password && { password }), ...(tls && { tls: { ...tlsFiles } }) };
}

/** To one server: the one that is named, the master that sentinels know, or any node of a cluster, another after each failure. */
function oneServer(target: RedisTarget, options: Manner, node?: RedisNode): Redis {
  const { db, form, masterName, nodes, sentinelPassword, sentinelUsername, tls, tlsFiles } = redisPlace(target);
  const own = { ...usual, retryStrategy, ...options, ...credentials(target), db };
  if (form === "standalone" || node) return new Redis({ ...own, ...(node ?? nodes[0]) });
  if (form === "sentinel") {
    return new Redis({
      ...own,
      sentinels: nodes,
      name: masterName as string,
      sentinelRetryStrategy: retryStrategy,
      sentinelCommandTimeout: sentinelTimeoutMs,
      // no failoverDetector: a message that comes while it connects ends the client for good
      ...(sentinelUsername && { sentinelUsername }),
      ...(sentinelPassword && { sentinelPassword }),
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: { ...tlsFiles } }),
    });
  }
  let turn = 0;
  const redis: Redis = new Redis({
    ...own,
    ...nodes[0],
    retryStrategy: (attempt) => {
      Object.assign(redis.options, nodes[++turn % nodes.length]); // read when it connects
      return retryStrategy(attempt);
    },
  });
  return redis;
}

const waiting = {
  maxRetriesPerRequest: null,
  reconnectOnError: (error: Error): 2 | false => (refusals.test(error.message) ? 2 : false),
} satisfies Manner;

/**
 * For everything but the runner's claims: it waits for Redis and sends again what got no reply. BullMQ makes its blocking clients after it.
 * `socketTimeoutMs` must exceed the longest wait for a reply.
 */
export function waitingClient(target: RedisTarget, name: string, socketTimeoutMs: number): RedisClient {
  const options = { ...waiting, connectionName: name, socketTimeout: socketTimeoutMs };
  const { form, nodes } = redisPlace(target);
  if (form === "standalone") return oneServer(target, options);
  if (form === "sentinel") return followed(oneServer(target, options));
  return new Cluster(nodes, {
    clusterRetryStrategy: retryStrategy,
    slotsRefreshTimeout: connectTimeoutMs,
    slotsRefreshInterval: connectTimeoutMs,
    retryDelayOnFailover: failoverRetryMs,
    retryDelayOnClusterDown: failoverRetryMs,
    redisOptions: { ...usual, ...options, ...credentials(target) },
  });
}

/**
 * BullMQ copies the client for each blocking wait, and a copy that waits at a frozen master cannot be asked whether it lives: it follows the
 * original, which is watched, to the new one.
 */
function followed(redis: Redis): Redis {
  const copies = new Set<Redis>();
  const duplicate = redis.duplicate.bind(redis);
  redis.duplicate = ((options) => {
    const copy = duplicate(options);
    copies.add(copy);
    copy.once("end", () => copies.delete(copy));
    return copy;
  }) as typeof redis.duplicate;
  const serverOf = ({ stream }: Redis): string => `${(stream as Socket).remoteAddress}:${(stream as Socket).remotePort}`;
  redis.on("ready", () => {
    for (const copy of copies) if (copy.stream && serverOf(copy) !== serverOf(redis)) copy.stream.destroy();
  });
  return redis;
}

/** Hears what is published anywhere in the store; waits and recovers. */
export function subscriptionClient(target: RedisTarget, name: string): Redis {
  return oneServer(target, { ...waiting, connectionName: name });
}

/** For `sendOnWire`: fails at once while the connection is away, and never sends anything again by itself. In a cluster, to the node that is named. */
export function wireClient(target: RedisTarget, name: string, node?: RedisNode): Redis {
  return oneServer(
    target,
    {
      connectionName: name,
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      reconnectOnError: (error) => (refusals.test(error.message) ? 1 : false),
      lazyConnect: node !== undefined,
    },
    node,
  );
}
