/**
 * A real PostgreSQL of a test's own, in a temporary folder, gone when the test's process is: the one on PATH, else Debian's packages, unpacked into
 * the cache. It refuses to run for root, so that root starts it for nobody. Where there is none, the reason is told, so that tests can say why they skip.
 */

import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, chown, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { canFetchDebianPackages, fetchDebianPackages, packagesFolder } from "../../coordinator/src/embedded/debian-packages.ts";
import { createLifeline, freePort } from "../../coordinator/src/embedded/redis-server.ts";
import { testRedisCache } from "./redis.ts";
import { until } from "./until.ts";

const run = promisify(execFile);
const nobody = 65_534;
/** By Debian's release. */
const majors: Readonly<Record<string, { postgres: number; icu: string }>> = {
  bookworm: { postgres: 15, icu: "libicu72" },
  trixie: { postgres: 17, icu: "libicu76" },
};

export interface PostgresPrograms {
  /** Folder of initdb, postgres and psql. */
  bin: string;
  libraryPath: string;
}

/** The programs, or why there are none. Never throws. */
export async function findPostgres(): Promise<PostgresPrograms | { missing: string }> {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const onPath = folders.find((folder) => ["initdb", "postgres", "psql"].every((name) => existsSync(path.join(folder, name))));
  if (onPath !== undefined) return { bin: onPath, libraryPath: "" };
  const release = /^VERSION_CODENAME=(\w+)/m.exec(await readFile("/etc/os-release", "utf8").catch(() => ""))?.[1] ?? "";
  const known = majors[release];
  if (known === undefined || !canFetchDebianPackages())
    return { missing: "there is no PostgreSQL on PATH, and none is known for this system" };
  const bin = `usr/lib/postgresql/${known.postgres}/bin`;
  const request = {
    packages: [`postgresql-${known.postgres}`, `postgresql-client-${known.postgres}`],
    programs: ["initdb", "postgres", "psql"].map((name) => `${bin}/${name}`),
    libraries: { libicui18n: known.icu, libicuuc: known.icu, libicudata: known.icu, libxml2: "libxml2" },
    cacheFolder: testRedisCache,
  };
  try {
    const fetched = await fetchDebianPackages(request);
    await chmod(packagesFolder(request), 0o755); // nobody must get there
    return { bin: path.join(fetched.root, bin), libraryPath: fetched.libraryPath };
  } catch (error) {
    return { missing: `PostgreSQL could not be fetched: ${(error as Error).message}` };
  }
}

export interface TestPostgres extends AsyncDisposable {
  /** postgres://…, of a database that is empty. */
  url: string;
  /** Runs SQL; answers what it prints, a row a line, values parted by `|`. */
  sql(text: string): Promise<string>;
}

export async function startPostgres({ bin, libraryPath }: PostgresPrograms): Promise<TestPostgres> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-postgres-"));
  const owner = process.getuid?.() === 0 ? { uid: nobody, gid: nobody } : {};
  if (owner.uid !== undefined) await chown(folder, nobody, nobody);
  const env = { PATH: process.env.PATH, LC_ALL: "C", ...(libraryPath !== "" && { LD_LIBRARY_PATH: libraryPath }) };
  const options = { cwd: folder, env, ...owner };
  const data = path.join(folder, "data");
  await run(path.join(bin, "initdb"), ["-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"], options);
  const port = await freePort();
  const settings = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1"];
  const child = spawn(path.join(bin, "postgres"), ["-D", data, "-p", String(port), ...settings], {
    ...options,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lifeline = createLifeline();
  if (child.pid !== undefined) lifeline.guard(child.pid);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output = `${output}${chunk}`.slice(-10_000);
    });
  const exited = new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => resolve());
  });
  const sql = async (text: string): Promise<string> => {
    const args = ["-h", "127.0.0.1", "-p", String(port), "-U", "test", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atq", "-c", text];
    return (await run(path.join(bin, "psql"), args, { env })).stdout;
  };
  const stop = async (): Promise<void> => {
    child.kill("SIGINT"); // a fast shutdown, in its words
    await exited;
    lifeline.close();
    await rm(folder, { recursive: true, force: true });
  };
  const answers = (): Promise<boolean> =>
    sql("SELECT 1").then(
      () => true,
      () => false,
    );
  await until("PostgreSQL to answer", answers, { withinMs: 30_000, show: () => output }).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  return { url: `postgres://test@127.0.0.1:${port}/postgres?sslmode=disable`, sql, [Symbol.asyncDispose]: stop };
}
