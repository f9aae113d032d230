/**
 * Builds the coordinator's clients of Redis, whatever its form: the only file that loads their library. A client is made for a purpose,
 * which decides how it fails; who gets one owns it.
 */

import { type RedisNode, type RedisTarget, redisPlace } from "@switchyard/protocol/redis";
import { Cluster, Redis, type RedisOptions } from "ioredis";

export type RedisClient = Redis | Cluster;

/** What a purpose decides. */
type Manner = Pick<
  RedisOptions,
  | "autoResendUnfulfilledCommands"
  | "commandTimeout"
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
const connectTimeoutMs = 2_000;

const usual = {
  protocol: 2,
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: connectTimeoutMs,
  keepAlive: 5_000,
  noDelay: true,
} satisfies Manner;

const refusals = /^(READONLY|UNBLOCKED)/;
/** The first time soon: a connection that was ended by a server that is there costs its callers nothing then. */
const retryStrategy = (attempt: number): number => (attempt === 1 ? 20 : Math.min(50 * 2 ** Math.min(attempt, 5), 1_000));

/** Who we are to the servers, and how the way to them is kept secret. */
function credentials(target: RedisTarget): Pick<RedisOptions, "password" | "tls" | "username"> {
  const { username, password, tls, tlsFiles } = redisPlace(target);
  return { ...(username && { username }), ...(password && { password }), ...(tls && { tls: { ...tlsFiles } }) };
}

/** To one server: the one that is named, the master that sentinels know, or any node of a cluster, another after each failure. */
function oneServer(target: RedisTarget, options: Manner, node?: RedisNode): Redis {
  const { db, form, masterName, nodes, sentinelPassword, sentinelUsername, tls, tlsFiles } = redisPlace(target);
  const own = { ...options, ...credentials(target), db };
  if (form === "standalone" || node) return new Redis({ ...own, ...(node ?? nodes[0]) });
  if (form === "sentinel") {
    return new Redis({
      ...own,
      sentinels: nodes,
      name: masterName as string,
      sentinelRetryStrategy: retryStrategy,
      sentinelCommandTimeout: connectTimeoutMs, // one that is frozen accepts and says nothing
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

/** What its library shows of it nowhere: to end a connection whose server says nothing any more. */
export function socketOf(redis: Redis): { destroy(): void } | undefined {
  return (redis as unknown as { stream?: { destroy(): void } }).stream;
}

/**
 * For commands that are sent as `sendOnWire` does; nothing waits while the connection is down, and nothing is sent twice. In a cluster this
 * is one node's: name it. Not connected yet.
 */
export function commandClient(target: RedisTarget, name: string, node?: RedisNode): Redis {
  const reconnectOnError = (error: Error): 1 | false => (refusals.test(error.message) ? 1 : false);
  return oneServer(target, { ...usual, retryStrategy, connectionName: name, reconnectOnError }, node);
}

/** Hears what is published anywhere in the store. Not connected yet. */
export function subscriptionClient(target: RedisTarget, name: string): Redis {
  return oneServer(target, { ...usual, retryStrategy, connectionName: name });
}

/** For BullMQ, which is given a client and no address. Connects at once. */
export function ticketClient(target: RedisTarget, name: string): RedisClient {
  const { form, nodes } = redisPlace(target);
  const options = {
    ...usual,
    lazyConnect: false,
    commandTimeout: 2_000,
    // a socket that died silently is made anew; without it offers would fail for minutes
    socketTimeout: form === "standalone" ? 5_000 : 2_500,
    connectionName: name,
  } satisfies Manner;
  if (form !== "cluster") return oneServer(target, { ...options, retryStrategy });
  const { enableOfflineQueue, lazyConnect, ...redisOptions } = options;
  return new Cluster(nodes, {
    enableOfflineQueue,
    lazyConnect,
    clusterRetryStrategy: retryStrategy,
    slotsRefreshTimeout: connectTimeoutMs,
    redisOptions: { ...redisOptions, ...credentials(target) },
  });
}
