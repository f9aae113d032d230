/**
 * Python with pinned packages for tests of foreign clients: a virtual environment in the project's cache, made once per list of packages.
 * A machine without Python, without venv or without a package index has none, and the reason is told, so that tests can say why they skip.
 */

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

export type PythonPackages = { python: string } | { missing: string };

const cache = fileURLToPath(new URL("../../.cache/python", import.meta.url));
const lists = fileURLToPath(new URL("../conformance/oip", import.meta.url));
const venvMs = 60_000;

/** `list` is the word in test/conformance/oip/requirements-<list>.txt. Never throws. */
export async function pythonPackages(list: string, options: { withinMs: number }): Promise<PythonPackages> {
  const requirements = path.join(lists, `requirements-${list}.txt`);
  const digest = createHash("sha256")
    .update(await readFile(requirements))
    .digest("hex")
    .slice(0, 12);
  const folder = path.join(cache, `${list}-${digest}`);
  const python = path.join(folder, "bin", "python");
  if (existsSync(python)) return { python };
  await mkdir(cache, { recursive: true });
  const part = await mkdtemp(path.join(cache, ".part-"));
  try {
    const made = await output("python3", ["-m", "venv", part], venvMs);
    if (made.code !== 0) return { missing: `python3 -m venv does not work here: ${lastLine(made.text)}` };
    const pip = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--timeout=20", "--retries=1", "-r", requirements];
    const installed = await output(path.join(part, "bin", "python"), pip, options.withinMs);
    if (installed.code !== 0) return { missing: `pip could not install ${list}: ${lastLine(installed.text)}` };
    // In one step, so that no other process finds half of it; its Python finds its packages by where it stands itself.
    await rename(part, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process was faster
    });
    return { python };
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

interface Ended {
  code: number | null;
  text: string;
}

/** Standard output and error together. A program that is not there ends with code null; one that takes too long is killed. */
function output(command: string, args: readonly string[], withinMs: number): Promise<Ended> {
  return new Promise((resolve) => {
    let text = "";
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const late = setTimeout(() => {
      text += `\nnot done within ${withinMs / 1_000} s`;
      child.kill("SIGKILL");
    }, withinMs);

    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        text += chunk;
      });
    }
    const end = (code: number | null): void => {
      clearTimeout(late);
      resolve({ code, text });
    };
    child.once("error", (error) => {
      text += error.message;
      end(null);
    });
    child.once("close", end);
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
