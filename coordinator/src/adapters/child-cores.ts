/** Which cores children may use. They begin where their parent may run at that moment, which is one core while `up` keeps it there (embedded/core-pair.ts). */

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";

/** The cores that this process' main thread may use now, as Linux lists them: "0-2,5". Undefined where the system does not say. */
export function allowedList(): string | undefined {
  try {
    return /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

const atStart = allowedList();

/** Lets a child use what this process could use at its start. */
export function freeChild(pid: number | undefined): void {
  if (pid === undefined || atStart === undefined || allowedList() === atStart) return;
  execFile("taskset", ["-a", "-p", "-c", atStart, String(pid)], () => {}); // it has ended, or stays where it is
}
