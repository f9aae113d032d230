/** One Redis per system and cell, of the same program with the same settings: the product's own, AOF everysec. */

import { readFileSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { assembleScript, scriptNames } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { startRedis } from "../../../coordinator/src/embedded/redis-server.ts";
import { testRedisBinary } from "../../support/redis.ts";
import type { RedisCommands, ScriptTimes } from "./system.ts";

export interface BenchRedis {
  url: string;
  pid: number;
  commands(): Promise<RedisCommands>;
  /** From now on every command is timed. */
  timeScripts(): Promise<void>;
  /** The last scripts that ran, by name. */
  scripts(): Promise<ScriptTimes>;
  stop(): Promise<void>;
}

export async function startBenchRedis(options: { maxMemoryBytes?: number; childCores?: readonly number[] } = {}): Promise<BenchRedis> {
  const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-bench-"));
  const clear = (): void => rmSync(dataFolder, { recursive: true, force: true });
  process.once("exit", clear);
  const server = await startRedis({ dataFolder, binary: await testRedisBinary(), ...options });
  return {
    url: server.url,
    pid: server.pid,
    commands: () => asking(server.url, commandStatistics),
    timeScripts: () =>
      asking(server.url, async (redis) => {
        await redis.config("SET", "slowlog-max-len", "8192");
        await redis.config("SET", "slowlog-log-slower-than", "0");
      }),
    scripts: () => asking(server.url, scriptTimes),
    async stop() {
      await server.stop();
      clear();
      process.off("exit", clear);
    },
  };
}

async function asking<Answer>(url: string, ask: (redis: Redis) => Promise<Answer>): Promise<Answer> {
  const redis = new Redis(url);
  try {
    return await ask(redis);
  } finally {
    redis.disconnect();
  }
}

async function commandStatistics(redis: Redis): Promise<RedisCommands> {
  const text = await redis.info("commandstats");
  const found = text.matchAll(/^cmdstat_(\S+?):calls=(\d+),usec=(\d+)/gm);
  return new Map([...found].map(([, name, calls, us]) => [name!, { calls: Number(calls), us: Number(us) }]));
}

async function scriptTimes(redis: Redis): Promise<ScriptTimes> {
  const names = new Map(scriptNames.map((name) => [assembleScript(name, luaText).sha, name as string]));
  const times = new Map<string, { calls: number; us: number }>();
  for (const [, , us, command] of (await redis.slowlog("GET", 8192)) as [number, number, number, string[]][]) {
    if (command[0]?.toLowerCase() !== "evalsha") continue;
    const name = names.get(command[1] ?? "") ?? "a script of BullMQ";
    const seen = times.get(name) ?? { calls: 0, us: 0 };
    times.set(name, { calls: seen.calls + 1, us: seen.us + us });
  }
  return times;
}

function luaText(file: string): string {
  return readFileSync(new URL(import.meta.resolve(`@switchyard/protocol/lua/${file}`)), "utf8");
}
