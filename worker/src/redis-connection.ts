/** A host's connections to Redis: they wait and recover. A connection that stays silent for `socketTimeout` while a reply is due is ended and made anew. */

import { readFileSync } from "node:fs";
import { assembleScript, type Script, type ScriptName, scriptNames } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";

const scripts = new Map<string, Script>();
for (const name of scriptNames) {
  scripts.set(
    name,
    assembleScript(name, (file) => readFileSync(new URL(import.meta.resolve(`@switchyard/protocol/lua/${file}`)), "utf8")),
  );
}

export type RedisReply = string | number | null | RedisReply[];
export type Command = [name: string, ...args: (string | number | Uint8Array)[]];

/** `socketTimeoutMs` must exceed the longest wait for a reply; leave it out where the thread may be blocked while one is due. */
export function hostConnection(url: string, name: string, socketTimeoutMs?: number): Redis {
  const redis = new Redis(url, {
    protocol: 2,
    connectionName: name,
    maxRetriesPerRequest: null,
    connectTimeout: 5_000,
    keepAlive: 5_000,
    noDelay: true,
    retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 6), 2_000),
    reconnectOnError: (error) => (/^(READONLY|UNBLOCKED)/.test(error.message) ? 2 : false),
    ...(socketTimeoutMs === undefined ? {} : { socketTimeout: socketTimeoutMs }),
  });
  redis.on("error", () => {}); // each reconnects by itself; presence decides what a long silence means
  return redis;
}

/** The command that runs a script on one key. */
export function scriptCommand(name: ScriptName, key: string, args: readonly (string | number)[]): Command {
  return ["evalsha", (scripts.get(name) as Script).sha, 1, key, ...args];
}

/**
 * Sends commands in one write. When the server has forgotten a script (restart, SCRIPT FLUSH) it is taught all of them, and everything from
 * that command on is sent again: each of our commands may be repeated, and their order must hold. Replies may be errors.
 */
export async function sendTogether(redis: Redis, commands: readonly Command[]): Promise<(RedisReply | Error)[]> {
  const replies = (await redis.pipeline(commands as unknown as unknown[][]).exec()) ?? [];
  const answers = replies.map(([error, reply]) => (error ? error : (reply as RedisReply)));
  const forgotten = answers.findIndex((answer) => answer instanceof Error && answer.message.startsWith("NOSCRIPT"));
  if (forgotten === -1) return answers;
  await Promise.all([...scripts.values()].map((script) => redis.script("LOAD", script.source)));
  return [...answers.slice(0, forgotten), ...(await sendTogether(redis, commands.slice(forgotten)))];
}

/** Runs one script; throws what Redis answered when it is an error. */
export async function runScript(redis: Redis, name: ScriptName, key: string, args: readonly (string | number)[]): Promise<RedisReply> {
  const [reply] = await sendTogether(redis, [scriptCommand(name, key, args)]);
  if (reply instanceof Error) throw reply;
  return reply as RedisReply;
}
