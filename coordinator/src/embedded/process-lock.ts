/**
 * A lock file that names the process holding it, so that a second user can be refused with that process id.
 * A lock whose process is gone is taken over: the id alone is not trusted, because ids are reused, so the process's start is kept too.
 * Holds on one machine only; it does not guard a folder shared between machines.
 */

import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Clock } from "../clock.ts";

export interface ProcessLock {
  /** Names another process, usually a child, as the holder. */
  handTo(pid: number): void;
  release(): void;
}

/** When the process started, in the system's own words: empty when the system does not say; undefined when there is no such process. */
function startOf(pid: number): string | undefined {
  if (!(pid > 0)) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return undefined;
  }
  try {
    if (process.platform !== "linux") return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19]; // a zombie holds nothing
  } catch {
    return process.platform === "linux" && !existsSync(`/proc/${pid}`) && existsSync("/proc/self") ? undefined : "";
  }
}

function describe(pid: number): string {
  return `${pid} ${startOf(pid) ?? ""}\n`;
}

/** The process id in a lock's text if that very process still runs; where a start is not known, any process of that id counts. */
function liveHolder(text: string): number | undefined {
  const [pid, ...start] = text.trim().split(" ");
  const running = startOf(Number(pid));
  const began = start.join(" ");
  return running !== undefined && (running === "" || began === "" || running === began) ? Number(pid) : undefined;
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

/** Who holds the lock now, or undefined. */
export function holderOf(file: string): number | undefined {
  const text = read(file);
  return text === undefined ? undefined : liveHolder(text);
}

/** Takes the lock, or answers the id of the process that has it. Creates the folder. */
export function tryLock(file: string): ProcessLock | { heldBy: number } {
  mkdirSync(path.dirname(file), { recursive: true });
  const own = `${file}.${process.pid}.${randomUUID()}`;
  writeFileSync(own, describe(process.pid));
  try {
    for (;;) {
      try {
        linkSync(own, file); // fails if the file exists, and the file is never seen without its text
        return heldLock(file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const seen = read(file);
      if (seen === undefined) continue;
      const holder = liveHolder(seen);
      if (holder !== undefined) return { heldBy: holder };
      takeAway(file, seen, own);
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/** Removes a stale lock; puts back what it moved if another process had replaced it meanwhile. */
function takeAway(file: string, stale: string, own: string): void {
  const aside = `${own}.stale`;
  try {
    renameSync(file, aside);
    if (read(aside) !== stale) linkSync(aside, file);
  } catch {
    // Somebody else was faster; the next look at the file decides.
  }
  rmSync(aside, { force: true });
}

function heldLock(file: string): ProcessLock {
  let mine = describe(process.pid);
  return {
    handTo(pid) {
      mine = describe(pid);
      const next = `${file}.${process.pid}.next`;
      writeFileSync(next, mine);
      renameSync(next, file);
    },
    release() {
      if (read(file) === mine) rmSync(file, { force: true });
    },
  };
}

/** Waits until the lock is free and takes it. `onWait` is called once with the holder if it has to wait. */
export async function waitForLock(
  file: string,
  deps: { clock: Clock; signal?: AbortSignal; onWait?: (pid: number) => void },
): Promise<ProcessLock> {
  let told = false;
  for (;;) {
    deps.signal?.throwIfAborted();
    const lock = tryLock(file);
    if (!("heldBy" in lock)) return lock;
    if (!told) deps.onWait?.(lock.heldBy);
    told = true;
    await deps.clock.sleep(100, deps.signal);
  }
}
