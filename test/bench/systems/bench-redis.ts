/** One Redis per system and cell, of the same program with the same settings: the product's own, AOF everysec. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Redis } from "ioredis";
import { startRedis } from "../../../coordinator/src/embedded/redis-server.ts";
import { testRedisBinary } from "../../support/redis.ts";
import type { RedisCommands } from "./system.ts";

export interface BenchRedis {
  url: string;
  pid: number;
  commands(): Promise<RedisCommands>;
  stop(): Promise<void>;
}

export async function startBenchRedis(): Promise<BenchRedis> {
  const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-bench-"));
  const server = await startRedis({ dataFolder, binary: await testRedisBinary() });
  return {
    url: server.url,
    pid: server.pid,
    commands: () => commandStatistics(server.url),
    async stop() {
      await server.stop();
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}

async function commandStatistics(url: string): Promise<RedisCommands> {
  const redis = new Redis(url);
  try {
    const text = await redis.info("commandstats");
    const found = text.matchAll(/^cmdstat_(\S+?):calls=(\d+),usec=(\d+)/gm);
    return new Map([...found].map(([, name, calls, us]) => [name!, { calls: Number(calls), us: Number(us) }]));
  } finally {
    redis.disconnect();
  }
}
