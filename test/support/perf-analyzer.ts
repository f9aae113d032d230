/**
 * Triton's perf_analyzer, unchanged: its program from the package index, and, where this machine's C library is older than it needs, that of a
 * newer release beside it, by whose loader it is started. A machine that cannot fetch them is told why, so that tests can say so.
 */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { canFetchDebianPackages, fetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import { testRedisCache } from "./redis.ts";

const run = promisify(execFile);
const version = "2.60.0";
const neededGlibc = [2, 38] as const;
const cache = fileURLToPath(new URL("../../.cache/perf-analyzer", import.meta.url));
/** Releases with a C library that is new enough, by distribution. */
const newerReleases: Readonly<Record<string, string>> = { debian: "trixie", ubuntu: "noble" };
const libraries = ["libc6", "libstdc++6", "libgcc-s1", "zlib1g", "libssl3t64"];

/** The command and its first arguments; or a sentence that says why it is not there. */
export type PerfAnalyzer = { command: string[] } | { missing: string };

/** Never throws. */
export async function perfAnalyzer(): Promise<PerfAnalyzer> {
  if (process.platform !== "linux" || process.arch !== "x64") return { missing: "perf_analyzer is published for Linux on x86-64 only" };
  try {
    const program = await fetchProgram();
    return { command: [...(await loader()), program] };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
}

async function fetchProgram(): Promise<string> {
  const folder = path.join(cache, version);
  const program = path.join(folder, "perf_analyzer", "bin", "perf_analyzer");
  if (existsSync(program)) return program;
  await mkdir(cache, { recursive: true });
  const part = await mkdtemp(path.join(cache, ".part-"));
  try {
    // not installed: the tags of this machine's own Python do not matter to a program that Python does not run
    const tags = ["--no-deps", "--only-binary=:all:", "--platform", `manylinux_${neededGlibc.join("_")}_x86_64`];
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--timeout=20", "--retries=1", ...tags];
    await run("python3", [...pip, "--dest", part, `perf-analyzer==${version}`], { timeout: 120_000 }).catch((error: Error) => {
      throw new Error(`perf-analyzer ${version} could not be fetched: ${error.message.trim().split("\n").at(-1)}`);
    });
    const wheel = (await readdir(part)).find((name) => name.endsWith(".whl"));
    if (wheel === undefined) throw new Error("pip fetched no perf-analyzer");
    await run("python3", ["-m", "zipfile", "-e", path.join(part, wheel), part]);
    await chmod(path.join(part, "perf_analyzer", "bin", "perf_analyzer"), 0o755);
    await rename(part, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process was faster
    });
    return program;
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

/** What stands before the program where this machine's C library is too old for it. */
async function loader(): Promise<string[]> {
  const { stdout } = await run("getconf", ["GNU_LIBC_VERSION"]);
  const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(stdout)?.slice(1) ?? []).map(Number);
  if (major > neededGlibc[0] || (major === neededGlibc[0] && minor >= neededGlibc[1])) return [];
  const here = `perf_analyzer needs glibc ${neededGlibc.join(".")}, this machine has ${major}.${minor}`;
  const distribution = /^ID="?(\w+)/m.exec(await readFile("/etc/os-release", "utf8"))?.[1] ?? "";
  const release = newerReleases[distribution];
  if (release === undefined || !canFetchDebianPackages()) throw new Error(`${here}, and a newer one is fetched on Debian and Ubuntu only`);
  const fetched = await fetchDebianPackages({ packages: libraries, programs: [], release, cacheFolder: testRedisCache }).catch(
    (error: Error) => {
      throw new Error(`${here}, and that of ${release} could not be fetched: ${error.message}`);
    },
  );
  return [path.join(fetched.root, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), "--library-path", fetched.libraryPath];
}
