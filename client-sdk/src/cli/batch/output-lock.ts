/** One process at a time writes an output: a file beside it names that process. What a dead process left is taken over. */

import { randomBytes } from "node:crypto";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { UsageError } from "../exit-codes.ts";

/** Resolves with what gives the output free. Throws UsageError while another process has it. */
export async function lockOutput(output: string): Promise<() => Promise<void>> {
  const lock = `${output}.lock`;
  const own = `${lock}.${process.pid}-${randomBytes(4).toString("hex")}`;
  try {
    await writeFile(own, `${process.pid}\n`);
    for (;;) {
      // whole at once: nobody reads it while it is written
      if (await isDone(link(own, lock), "EEXIST")) return () => rm(lock, { force: true });
      const pid = Number(await readFile(lock, "utf8").catch(() => "0"));
      if (pid > 0 && isAlive(pid)) {
        throw new UsageError(`process ${pid} writes ${output}; if that is another program by now, remove ${lock}`);
      }
      // of several that find it, one moves it away
      const stale = `${own}-stale`;
      if (!(await isDone(rename(lock, stale), "ENOENT"))) continue;
      // another may have taken it over since: then that lock stands
      if (Number(await readFile(stale, "utf8")) !== pid) await isDone(link(stale, lock), "EEXIST");
      await rm(stale, { force: true });
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot write ${lock}: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await rm(own, { force: true });
  }
}

/** Whether it was done, and was not too late. */
async function isDone(act: Promise<void>, tooLate: string): Promise<boolean> {
  try {
    await act;
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === tooLate) return false;
    throw error;
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
