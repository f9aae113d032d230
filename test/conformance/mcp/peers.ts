/**
 * The foreign programs that the conformance run is made with: exactly those of peers/package-lock.json, installed into the cache at the first run
 * and never beside the product's own packages. No install script is run.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const wanted = fileURLToPath(new URL("./peers", import.meta.url));
const cache = fileURLToPath(new URL("../../../.cache", import.meta.url));
const installMs = 600_000;

export interface Peers {
  /** A file of an installed package, to be run by Node. */
  file(name: string): string;
  /** Loads an installed package. */
  load(name: string): Promise<Record<string, unknown>>;
}

/** The peers, or why they cannot be had. Never throws. */
export async function installPeers(): Promise<Peers | { missing: string }> {
  const lock = readFileSync(path.join(wanted, "package-lock.json"));
  const folder = path.join(cache, `mcp-peers-${createHash("sha256").update(lock).digest("hex").slice(0, 10)}`);
  try {
    if (!existsSync(folder)) await install(folder);
  } catch (error) {
    return { missing: `npm ci in ${path.relative(process.cwd(), wanted)} failed: ${lastLine(error)}` };
  }
  const require = createRequire(path.join(folder, "package.json"));
  return {
    file: (name) => path.join(folder, "node_modules", name),
    load: (name) => import(require.resolve(name)) as Promise<Record<string, unknown>>,
  };
}

async function install(folder: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  const part = await mkdtemp(path.join(cache, ".mcp-peers-"));
  try {
    for (const name of ["package.json", "package-lock.json"]) await copyFile(path.join(wanted, name), path.join(part, name));
    const npm = process.env.npm_execpath;
    const [program, ...before] = npm?.endsWith(".js") ? [process.execPath, npm] : ["npm"];
    const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    await run(program!, [...before, ...args], { cwd: part, timeout: installMs, maxBuffer: 1 << 26 });
    await rename(part, folder);
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  return (stderr?.trim() || message).split("\n").at(-1)!;
}
