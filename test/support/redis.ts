/**
 * A real Redis of a test's own, in a temporary folder, gone when the test's process is. Every process starts its own server.
 * SWITCHYARD_TEST_REDIS names another redis-server or valkey-server program to test against.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { findRedis, type RedisBinary, type RedisServer, startRedis } from "../../coordinator/src/embedded/redis-server.ts";

export interface TestRedis {
  /** redis://:password@127.0.0.1:port; stays the same after restart(). */
  readonly url: string;
  readonly port: number;
  readonly password: string;
  readonly pid: number;
  /** Where its files lie. */
  readonly dataFolder: string;
  /** Ends the server at once and removes its data. */
  stop(): Promise<void>;
  /** Freezes the server: connections stay open and nothing answers. */
  pause(): void;
  resume(): void;
  /** Kills the server without warning; the address refuses connections until restart(). */
  kill(): Promise<void>;
  /** Ends the server if it runs and starts it again on the same data and address. */
  restart(): Promise<void>;
}

/** Where the fetched server lies; the product uses the same folder. */
export const testRedisCache = process.env.SWITCHYARD_CACHE ?? fileURLToPath(new URL("../../.cache/debian", import.meta.url));
let binary: Promise<RedisBinary> | undefined;

/** The program that tests run against. */
export function testRedisBinary(): Promise<RedisBinary> {
  const named = process.env.SWITCHYARD_TEST_REDIS;
  const pathEnv = named === undefined ? (process.env.PATH ?? "") : path.dirname(named);
  binary ??= findRedis({ pathEnv, cacheFolder: testRedisCache });
  return binary;
}

interface TestRedisOptions {
  maxMemoryBytes?: number;
  binary?: RedisBinary;
  /** Default true. False: no write of it waits for a busy disk, for two seconds at times; for tests that measure time and never start it again. */
  persists?: boolean;
}

export async function startTestRedis({ persists = true, ...options }: TestRedisOptions = {}): Promise<TestRedis> {
  const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-redis-"));
  const program = options.binary ?? (await testRedisBinary());
  const start = { dataFolder, maxMemoryBytes: 1024 ** 3, ...options, binary: program };
  let server: RedisServer = await startRedis(start);
  const { url, port, password } = server;
  if (!persists) {
    const client = new Redis(url);
    await client.config("SET", "appendonly", "no");
    client.disconnect();
  }
  return {
    url,
    port,
    password,
    dataFolder,
    get pid() {
      return server.pid;
    },
    async stop() {
      const { pid } = server;
      const ended = await Promise.race([server.exited, undefined]);
      if (ended === undefined) process.kill(pid, "SIGKILL"); // nobody reads its data again
      await server.exited;
      await rm(dataFolder, { recursive: true, force: true });
    },
    pause() {
      process.kill(server.pid, "SIGSTOP");
    },
    resume() {
      process.kill(server.pid, "SIGCONT");
    },
    async kill() {
      process.kill(server.pid, "SIGKILL");
      await server.exited;
    },
    async restart() {
      await server.stop();
      server = await startRedis({ ...start, port, password });
    },
  };
}
