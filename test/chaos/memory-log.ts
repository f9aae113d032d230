/**
 * Loaded into every thread of a process (`--import`): how much memory is alive there, after a collection, a line every few seconds. What a
 * process takes from the system wanders by tens of megabytes with its collections, and tells of a leak only over hours. CHAOS_MEMORY
 * names the file.
 */

import { appendFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { threadId } from "node:worker_threads";

const everyMs = 3_000;

const file = process.env.CHAOS_MEMORY;
if (file !== undefined) {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const look = (): void => {
    collect();
    const { external, heapUsed } = process.memoryUsage();
    appendFileSync(file, `${JSON.stringify({ atMs: Date.now(), thread: threadId, bytes: heapUsed + external })}\n`);
  };
  setInterval(look, everyMs).unref();
}
