/** One process at a time writes an output: a file beside it names that process. What a dead process left is taken over. */

import { readFile, rm, writeFile } from "node:fs/promises";
import { UsageError } from "../exit-codes.ts";

/** Resolves with what gives the output free. Throws UsageError while another process has it. */
export async function lockOutput(output: string): Promise<() => Promise<void>> {
  const lock = `${output}.lock`;
  for (;;) {
    try {
      await writeFile(lock, `${process.pid}\n`, { flag: "wx" });
      return () => rm(lock, { force: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
        throw new UsageError(`cannot write ${lock}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    const pid = Number(await readFile(lock, "utf8").catch(() => ""));
    if (pid > 0 && isAlive(pid)) {
      throw new UsageError(`process ${pid} writes ${output}; if that is another program by now, remove ${lock}`);
    }
    await rm(lock, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
