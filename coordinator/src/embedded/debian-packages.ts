/**
 * Programs from Debian's or Ubuntu's own mirror, unpacked into a cache folder: no root, nothing installed, nothing started at boot.
 * apt gets private lists and a private cache, and the system's hooks are left out, so the machine's package state is never touched.
 * Signatures are checked by apt as always. Safe for several processes at once; a folder appears whole or not at all.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { systemClock } from "../clock.ts";
import { waitForLock } from "./process-lock.ts";

const execFileAsync = promisify(execFile);

export interface DebianPackagesRequest {
  packages: readonly string[];
  /** Shared by all requests; each set of packages gets a folder of its own below it. */
  cacheFolder: string;
  /** Prefer the release's backports. */
  backports?: boolean;
  /** Take the packages from this other release; what they hold may need that release's own libraries and loader. */
  release?: string;
  /**
   * Programs whose libraries must all be found afterwards, by file name, or by their path where they lie outside bin folders; default: all that
   * the packages put into bin folders.
   */
  programs?: readonly string[];
  /** Packages of libraries that are not named after what they hold, by soname without its version. */
  libraries?: Readonly<Record<string, string>>;
  onProgress?: (message: string) => void;
}

export interface DebianPackages {
  /** Folder that stands for `/`. */
  root: string;
  /** Value for LD_LIBRARY_PATH. */
  libraryPath: string;
  /** Path of a program in usr/bin, usr/sbin, bin, sbin or usr/lib/…/bin; throws if the packages do not have it. */
  binary(name: string): string;
}

/** Whether this machine has the tools; elsewhere `fetchDebianPackages` throws. */
export function canFetchDebianPackages(pathEnv: string = process.env.PATH ?? ""): boolean {
  return ["apt-get", "dpkg-deb"].every((tool) => pathEnv.split(":").some((folder) => folder !== "" && existsSync(path.join(folder, tool))));
}

/** The folder in the cache that holds, or would hold, what this request asks for. */
export function packagesFolder(request: DebianPackagesRequest): string {
  const release = request.release === undefined ? [] : [request.release];
  const wanted = JSON.stringify([[...request.packages].sort(), request.backports === true, request.programs ?? null, ...release]);
  const name = `${request.packages[0]}-${createHash("sha256").update(wanted).digest("hex").slice(0, 10)}`;
  return path.resolve(request.cacheFolder, name);
}

/** Downloads and unpacks once; later calls answer from the cache without touching the network. */
export async function fetchDebianPackages(request: DebianPackagesRequest): Promise<DebianPackages> {
  const folder = packagesFolder(request);
  if (!existsSync(folder)) {
    if (!canFetchDebianPackages()) throw new Error("apt-get and dpkg-deb are needed to fetch Debian packages, and this machine lacks them");
    const lock = await waitForLock(path.resolve(request.cacheFolder, "lock"), {
      clock: systemClock,
      onWait: (pid) => request.onProgress?.(`waiting for process ${pid}, which is fetching packages`),
    });
    try {
      if (!existsSync(folder)) await build(request, folder);
    } finally {
      lock.release();
    }
  }
  const libraries: string[] = JSON.parse(await readFile(path.join(folder, "libraries.json"), "utf8"));
  const root = path.join(folder, "root");
  return {
    root,
    libraryPath: libraries.map((library) => path.join(root, library)).join(":"),
    binary(program) {
      for (const bin of binFolders) {
        const file = path.join(root, bin, program);
        if (existsSync(file)) return file;
      }
      throw new Error(`the packages ${request.packages.join(", ")} contain no program ${program}`);
    },
  };
}

const binFolders = ["usr/bin", "usr/sbin", "bin", "sbin"];

async function build(request: DebianPackagesRequest, folder: string): Promise<void> {
  const apt = await privateApt(request);
  const work = await mkdtemp(path.join(path.resolve(request.cacheFolder), "unpack-"));
  const root = path.join(work, "root");
  try {
    request.onProgress?.(`downloading ${request.packages.join(", ")}`);
    const updated = await apt.run("apt-get", ["update", "-q"]);
    const downloaded = new Set<string>();
    let missing: string[] = [...request.packages];
    // Each round brings libraries that the last round's programs lack; a handful is far more than any chain seen.
    for (let round = 0; missing.length > 0; round++) {
      if (round > 5) throw new Error(`libraries are still missing after ${round} rounds: ${missing.join(", ")}`);
      await download(apt, missing, { work, root, downloaded, updateOutput: updated.output });
      const sonames = await missingLibraries(root, request.programs);
      missing = [...new Set(await packagesFor(apt, sonames, request))];
      const again = missing.find((name) => downloaded.has(name));
      if (again !== undefined) throw new Error(`${again} was unpacked, but ${sonames.join(", ")} is still not found`);
    }
    await writeFile(path.join(work, "libraries.json"), JSON.stringify(await libraryFolders(root)));
    await rename(work, folder);
  } finally {
    await rm(work, { recursive: true, force: true });
    await rm(apt.folder, { recursive: true, force: true });
  }
}

interface PrivateApt {
  folder: string;
  /** Arguments that select backports, or none. */
  release: string[];
  run(tool: string, args: string[], cwd?: string): Promise<{ ok: boolean; output: string }>;
}

/** apt with its own configuration: from the system it takes the distribution's sources and how to reach the network. */
async function privateApt(request: DebianPackagesRequest): Promise<PrivateApt> {
  const folder = await mkdtemp(path.join(path.resolve(request.cacheFolder), "apt-"));
  await mkdir(path.join(folder, "lists/partial"), { recursive: true });
  await mkdir(path.join(folder, "cache/archives/partial"), { recursive: true });
  const { stdout: dump } = await execFileAsync("apt-config", ["dump"], { maxBuffer: 1 << 24 });
  const network = dump.split("\n").filter((line) => /^Acquire::(https?|ftp|socks|Retries|Check-|ForceIPv|Proxy)/i.test(line));
  const codename = /^VERSION_CODENAME="?([a-z]+)/m.exec(await readFile("/etc/os-release", "utf8"))?.[1] ?? "";
  await mkdir(path.join(folder, "sources"));
  const sources = await distributionSources(codename, request);
  for (const [index, source] of sources.entries()) await writeFile(path.join(folder, `sources/${index}.${source.kind}`), source.text);
  const configuration = [
    ...network,
    'Dir::Etc::Parts "/dev/null";', // the system's hooks and, below, its third-party sources
    'Dir::Etc::Main "/dev/null";',
    ...(sources.length > 0 ? ['Dir::Etc::SourceList "/dev/null";', `Dir::Etc::SourceParts "${folder}/sources";`] : []),
    `Dir::State::Lists "${folder}/lists";`,
    `Dir::Cache "${folder}/cache";`,
    'Debug::NoLocking "1";',
    'APT::Sandbox::User "";',
    'Acquire::Languages "none";',
  ];
  const file = path.join(folder, "apt.conf");
  await writeFile(file, `${configuration.join("\n")}\n`);
  return {
    folder,
    release: request.backports === true ? ["-t", `${codename}-backports`] : [],
    async run(tool, args, cwd = folder) {
      const env = { ...process.env, APT_CONFIG: file, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
      try {
        const { stdout, stderr } = await execFileAsync(tool, args, { cwd, env, maxBuffer: 1 << 26 });
        return { ok: true, output: stdout + stderr };
      } catch (error) {
        const failed = error as { stdout?: string; stderr?: string; message: string };
        return { ok: false, output: `${failed.stdout ?? ""}${failed.stderr ?? ""}` || failed.message };
      }
    },
  };
}

/** The entries of the release itself; third-party sources are skipped, they may be slow or gone. Empty: use the system's as they are. */
async function distributionSources(
  codename: string,
  { backports = false, release }: Pick<DebianPackagesRequest, "backports" | "release">,
): Promise<{ kind: "list" | "sources"; text: string }[]> {
  if (codename === "") return [];
  const further = release ?? (backports ? `${codename}-backports` : undefined);
  const parts = await readdir("/etc/apt/sources.list.d").catch(() => []);
  const found: { kind: "list" | "sources"; text: string }[] = [];
  const ours = new RegExp(`(^|\\s)${codename}(\\s|$)`);
  for (const file of ["/etc/apt/sources.list", ...parts.map((part) => `/etc/apt/sources.list.d/${part}`)]) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (file.endsWith(".list")) {
      const lines = text.split("\n").filter((line) => /^deb\s/.test(line) && line.includes(codename) && /\smain(\s|$)/.test(line));
      if (lines.length > 0 && release === undefined) found.push({ kind: "list", text: `${lines.join("\n")}\n` });
      const base = lines.find((line) => ours.test(line));
      if (further !== undefined && base) found.push({ kind: "list", text: `${base.replace(ours, `$1${further}$2`)}\n` });
    } else if (file.endsWith(".sources")) {
      for (const stanza of text.split(/\n\s*\n/)) {
        const suites = /^Suites:(.*)$/m.exec(stanza)?.[1] ?? "";
        if (!suites.includes(codename) || !/^Components:.*\bmain\b/m.test(stanza)) continue;
        if (release === undefined) found.push({ kind: "sources", text: `${stanza}\n` });
        if (further !== undefined && ours.test(suites)) {
          found.push({ kind: "sources", text: `${stanza.replace(/^Suites:.*$/m, `Suites: ${further}`)}\n` });
        }
      }
    }
  }
  return found;
}

async function download(
  apt: PrivateApt,
  packages: readonly string[],
  into: { work: string; root: string; downloaded: Set<string>; updateOutput: string },
): Promise<void> {
  const debs = path.join(into.work, "debs");
  await mkdir(debs, { recursive: true });
  const fetched = await apt.run("apt-get", ["download", "-q", ...apt.release, ...packages], debs);
  if (!fetched.ok) throw new Error(`apt-get download ${packages.join(" ")} failed:\n${lastLines(into.updateOutput + fetched.output)}`);
  for (const deb of await readdir(debs)) await execFileAsync("dpkg-deb", ["-x", path.join(debs, deb), into.root]);
  for (const name of packages) into.downloaded.add(name);
  await rm(debs, { recursive: true });
}

function lastLines(output: string): string {
  return output.trimEnd().split("\n").slice(-8).join("\n");
}

/** Folders below root that hold shared libraries, relative to it. */
async function libraryFolders(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const folders = entries.filter((entry) => /\.so(\.|$)/.test(entry.name)).map((entry) => path.relative(root, entry.parentPath));
  return [...new Set(folders)].sort();
}

/** Names such as libssl.so.3 that the programs ask for and nobody has. */
async function missingLibraries(root: string, programs: readonly string[] | undefined): Promise<string[]> {
  const libraryPath = (await libraryFolders(root)).map((folder) => path.join(root, folder)).join(":");
  const missing = new Set<string>();
  const found = (programs ?? []).filter((program) => program.includes("/"));
  for (const bin of binFolders) {
    const names = await readdir(path.join(root, bin)).catch(() => []);
    found.push(...names.filter((name) => programs?.includes(name) ?? true).map((name) => path.join(bin, name)));
  }
  for (const program of found) {
    const env = { ...process.env, LD_LIBRARY_PATH: libraryPath };
    // ldd exits 1 for scripts and static programs, which need nothing.
    const { stdout } = await execFileAsync("ldd", [path.join(root, program)], { env }).catch(() => ({ stdout: "" }));
    for (const match of stdout.matchAll(/^\s*(\S+) => not found$/gm)) if (match[1]) missing.add(match[1]);
  }
  return [...missing];
}

/** Debian names a library's package after its soname: libssl.so.3 is in libssl3 or, after the 64-bit time change, libssl3t64. */
async function packagesFor(
  apt: PrivateApt,
  sonames: readonly string[],
  { packages: roots, libraries = {} }: Pick<DebianPackagesRequest, "packages" | "libraries">,
): Promise<string[]> {
  if (sonames.length === 0) return [];
  const query = [
    "depends",
    "--recurse",
    "--no-recommends",
    "--no-suggests",
    "--no-conflicts",
    "--no-breaks",
    "--no-replaces",
    "--no-enhances",
  ];
  const { output } = await apt.run("apt-cache", [...query, ...apt.release, ...roots]);
  const known = new Set(
    output
      .split("\n")
      .filter((line) => /^[a-z0-9]/.test(line))
      .map((line) => line.replace(/:.*$/, "").trim()),
  );
  return sonames.map((soname) => {
    const [stem = "", version = ""] = soname
      .toLowerCase()
      .replaceAll("_", "-")
      .split(/\.so\.?/);
    const named = libraries[soname.replace(/\.so.*$/, "")];
    const names = [...(named === undefined ? [] : [named]), stem + version, `${stem}-${version}`].flatMap((name) => [name, `${name}t64`]);
    const found = names.find((name) => known.has(name));
    if (found === undefined) throw new Error(`no package among the dependencies of ${roots.join(", ")} brings ${soname}`);
    return found;
  });
}
