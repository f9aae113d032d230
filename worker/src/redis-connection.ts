/** A host's connections to Redis: they wait and recover. A connection that stays silent for `socketTimeout` while a reply is due is ended and made anew. */

import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import {
  assembleScript,
  type RawReply,
  type RedisArgument,
  type RedisCommand,
  type RedisReply,
  type Script,
  type ScriptName,
  scriptNames,
  sendOnWire,
  type WireClient,
} from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import type { Clock } from "./clock.ts";

const scripts = new Map<string, Script>();
for (const name of scriptNames) {
  scripts.set(
    name,
    assembleScript(name, (file) => readFileSync(new URL(import.meta.resolve(`@switchyard/protocol/lua/${file}`)), "utf8")),
  );
}

/** `socketTimeoutMs` must exceed the longest wait for a reply; leave it out where the thread may be blocked while one is due. */
export function hostConnection(url: string, name: string, socketTimeoutMs?: number): Redis {
  const redis = new Redis(url, {
    ...connectionDefaults(name),
    maxRetriesPerRequest: null,
    reconnectOnError: (error) => (isRefusal(error) ? 2 : false),
    ...(socketTimeoutMs === undefined ? {} : { socketTimeout: socketTimeoutMs }),
  });
  redis.on("error", () => {}); // each reconnects by itself; presence decides what a long silence means
  return redis;
}

/** For `sendTogether`: fails at once while the connection is away, and never sends anything again by itself. */
export function wireConnection(url: string, name: string): Redis {
  const redis = new Redis(url, {
    ...connectionDefaults(name),
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    reconnectOnError: (error) => (isRefusal(error) ? 1 : false),
  });
  redis.on("error", () => {}); // the caller sees each failure, and tries again
  return redis;
}

const stepMs = 1_000;
const pingEverySteps = 5;

/**
 * Pings a connection, and ends one that owes a reply, or its handshake, while no byte has moved for `limitMs`: a frozen server or a
 * dead path. It then rejects what waits and connects anew. Silence is counted in steps, so that a thread that was blocked has read what
 * came meanwhile before it judges; a large value that still moves is no silence. Answers the end of the watch.
 */
export function endWhenSilent(redis: Redis, clock: Pick<Clock, "after">, limitMs: number): () => void {
  let [steps, quietSteps, moved, isOwed] = [0, 0, "", false];
  let stop = (): void => {};
  const step = (): void => {
    const { stream, status } = redis as unknown as { stream?: Socket; status: string };
    steps += 1;
    const movedNow = `${stream?.bytesRead} ${stream?.writableLength}`;
    const isQuiet = movedNow === moved && (status === "connect" || (status === "ready" && isOwed));
    moved = movedNow;
    quietSteps = isQuiet ? quietSteps + 1 : 0;
    if (quietSteps * stepMs >= limitMs) {
      quietSteps = 0;
      stream?.destroy();
    }
    if (status === "ready" && !isOwed && steps % pingEverySteps === 0) {
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

function connectionDefaults(name: string) {
  return {
    protocol: 2 as const,
    connectionName: name,
    connectTimeout: 5_000,
    keepAlive: 5_000,
    noDelay: true,
    retryStrategy: (attempt: number) => Math.min(50 * 2 ** Math.min(attempt, 6), 2_000),
  };
}

function isRefusal(error: Error): boolean {
  return /^(READONLY|UNBLOCKED)/.test(error.message);
}

/** The command that runs a script on one key. */
export function scriptCommand(name: ScriptName, key: string, args: readonly RedisArgument[]): RedisCommand {
  return ["evalsha", (scripts.get(name) as Script).sha, 1, key, ...args];
}

/**
 * Sends commands in one write. When the server has forgotten a script (restart, SCRIPT FLUSH) it is taught all of them, and everything from
 * that command on is sent again: each of our commands may be repeated, and their order must hold. Replies may be errors.
 */
export async function sendTogether(redis: Redis, commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
  const answers = await sendOnWire(redis as unknown as WireClient, commands);
  const forgotten = answers.findIndex((answer) => answer instanceof Error && answer.message.startsWith("NOSCRIPT"));
  if (forgotten === -1) return answers;
  await Promise.all([...scripts.values()].map((script) => redis.script("LOAD", script.source)));
  return [...answers.slice(0, forgotten), ...(await sendTogether(redis, commands.slice(forgotten)))];
}

/** Runs one script, waiting for the connection if need be; throws what Redis answered when it is an error. */
export async function runScript(redis: Redis, name: ScriptName, key: string, args: readonly (string | number)[]): Promise<RedisReply> {
  const { sha, source } = scripts.get(name) as Script;
  try {
    return (await redis.evalsha(sha, 1, key, ...args)) as RedisReply;
  } catch (error) {
    if (!(error as Error).message.startsWith("NOSCRIPT")) throw error;
    return (await redis.eval(source, 1, key, ...args)) as RedisReply;
  }
}
