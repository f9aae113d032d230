/** Stores that promise more than the usual one: a Redis with a replica, and a Valkey that has WAITAOF. */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { canFetchDebianPackages, fetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import type { RedisBinary } from "../../coordinator/src/embedded/redis-server.ts";
import { startTestRedis, type TestRedis, testRedisCache } from "./redis.ts";
import { until } from "./until.ts";

/** One command on a connection of its own. */
export async function tell(redis: TestRedis, command: string, ...args: (string | number)[]): Promise<unknown> {
  const client = new Redis(redis.url);
  try {
    return await client.call(command, ...args);
  } finally {
    client.disconnect();
  }
}

export const setting = (redis: TestRedis, name: string, value: string | number) => tell(redis, "CONFIG", "SET", name, value);

/** A second server that follows the first; resolves when it is in step. */
export async function startReplica(master: TestRedis): Promise<TestRedis> {
  const replica = await startTestRedis();
  await setting(master, "repl-diskless-sync-delay", 0); // it would wait for others
  await setting(replica, "masterauth", master.password);
  await tell(replica, "REPLICAOF", "127.0.0.1", master.port);
  await until("the replica to be in step", async () => /^slave0:.*state=online/m.test(String(await tell(master, "INFO", "replication"))));
  return replica;
}

/** From the release's backports; a sentence that says why it is not there. */
export async function valkeyBinary(): Promise<RedisBinary | string> {
  if (!canFetchDebianPackages()) return "Valkey is fetched as packages of Debian, and this machine has no apt-get and dpkg-deb";
  try {
    const found = await fetchDebianPackages({
      packages: ["valkey-server", "valkey-tools"],
      programs: ["valkey-server"],
      backports: true,
      cacheFolder: testRedisCache,
    });
    const path = found.binary("valkey-server");
    const env = { ...process.env, LD_LIBRARY_PATH: found.libraryPath };
    const { stdout } = await promisify(execFile)(path, ["--version"], { env });
    const version = /\bv=(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
    if (version === undefined) return `the fetched valkey-server does not tell its version: ${stdout}`;
    return { path, version, kind: "valkey", source: "cache", libraryPath: found.libraryPath };
  } catch (error) {
    return `Valkey could not be fetched from the release's backports: ${(error as Error).message}`;
  }
}
