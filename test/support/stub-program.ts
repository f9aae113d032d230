/** A program of a test's own making, found on PATH before any other of its name. */

import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

export interface StubProgram extends AsyncDisposable {
  /** The variable PATH with the stub's folder in front. */
  readonly path: string;
}

/** `script` is the body of a POSIX shell script. */
export async function stubProgram(name: string, script: string): Promise<StubProgram> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-stub-"));
  const file = path.join(folder, name);
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return {
    path: `${folder}${path.delimiter}${process.env.PATH ?? ""}`,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
