/** grpcurl, unchanged: built from its source, which Go's module proxy has, once into the project's cache. A machine without Go, or without a proxy, is told why. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const version = "v1.9.4";
const cache = fileURLToPath(new URL("../../.cache/grpcurl", import.meta.url));
const buildMs = 600_000;

/** Its path; or a sentence that says why it is not there. */
export type Grpcurl = { program: string } | { missing: string };

/** Never throws. */
export async function grpcurl(): Promise<Grpcurl> {
  const folder = path.join(cache, version);
  const program = path.join(folder, "grpcurl");
  if (existsSync(program)) return { program };
  await mkdir(cache, { recursive: true });
  const part = await mkdtemp(path.join(cache, ".part-"));
  try {
    const env = { ...process.env, GOBIN: part, CGO_ENABLED: "0" };
    await run("go", ["install", `github.com/fullstorydev/grpcurl/cmd/grpcurl@${version}`], { env, timeout: buildMs });
    await rename(part, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error; // another process was faster
    });
    return { program };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no Go here to build it with" : message.trim().split("\n").at(-1);
    return { missing: `grpcurl ${version} is not there: ${why}` };
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}
