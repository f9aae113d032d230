/**
 * Loaded into every thread of a process (`--import`): how much memory is alive there, after a collection, a line every few seconds. What a
 * process takes from the system wanders by tens of megabytes with its collections, and tells of a leak only over hours. Compiled code is
 * left out: it gathers for many minutes, by what is called often, and has spaces of its own. CHAOS_MEMORY names the file.
 */

import { appendFileSync } from "node:fs";
import { getHeapSpaceStatistics } from "node:v8";
import { threadId } from "node:worker_threads";
import { garbageCollector } from "../support/garbage-collector.ts";

const everyMs = 3_000;
const ofCode = /^(code|trusted|shared_trusted)_/;

const file = process.env.CHAOS_MEMORY;
if (file !== undefined) {
  const collect = garbageCollector();
  const look = (): void => {
    collect();
    const data = getHeapSpaceStatistics().filter(({ space_name: name }) => !ofCode.test(name));
    const bytes = data.reduce((sum, { space_used_size: used }) => sum + used, process.memoryUsage().external);
    appendFileSync(file, `${JSON.stringify({ atMs: Date.now(), thread: threadId, bytes })}\n`);
  };
  setInterval(look, everyMs).unref();
}
