/** A valkey-server to test against: the one on PATH, else the distribution's package from its backports. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { canFetchDebianPackages, fetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import type { RedisBinary } from "../../coordinator/src/embedded/redis-server.ts";
import { testRedisCache } from "./redis.ts";

const wanted = {
  packages: ["valkey-server", "valkey-tools", "liblzf1", "libjemalloc2", "libatomic1"],
  programs: ["valkey-server"],
  backports: true,
};

/** The program, or why there is none. */
export async function findValkey(): Promise<RedisBinary | string> {
  const onPath = (process.env.PATH ?? "")
    .split(path.delimiter)
    .map((folder) => path.join(folder, "valkey-server"))
    .find((file) => existsSync(file));
  if (onPath) return asBinary(onPath, { source: "path" });
  if (!canFetchDebianPackages()) return "valkey-server is not on PATH, and this machine has no apt-get to fetch it with";
  try {
    const fetched = await fetchDebianPackages({ ...wanted, cacheFolder: testRedisCache });
    return await asBinary(fetched.binary("valkey-server"), { source: "cache", libraryPath: fetched.libraryPath });
  } catch (error) {
    return `valkey-server could not be fetched: ${(error as Error).message}`;
  }
}

async function asBinary(file: string, how: Pick<RedisBinary, "libraryPath" | "source">): Promise<RedisBinary | string> {
  const env = how.libraryPath === undefined ? process.env : { ...process.env, LD_LIBRARY_PATH: how.libraryPath };
  const { stdout } = await promisify(execFile)(file, ["--version"], { env });
  const version = /\bv=(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  return version === undefined ? `${file} does not say its version: ${stdout}` : { path: file, version, kind: "valkey", ...how };
}
