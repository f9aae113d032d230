/** Writes the log as JSON lines to a stream, stderr by default: stdout belongs to whoever speaks a protocol on it. */

import type { Clock } from "../clock.ts";
import type { Log, LogFields } from "../ports/log.ts";

export function jsonLinesLog(clock: Clock, into: { write(line: string): unknown } = process.stderr): Log {
  const write = (level: string, event: string, fields?: LogFields): void => {
    into.write(`${JSON.stringify({ time: new Date(clock.nowMs()).toISOString(), level, event, ...fields })}\n`);
  };
  return {
    info: (event, fields) => write("info", event, fields),
    warn: (event, fields) => write("warn", event, fields),
    error: (event, fields) => write("error", event, fields),
  };
}
