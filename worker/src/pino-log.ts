/** The worker's log as JSON lines on stderr, by pino, each with the host's id. The only file that knows pino. */

import { cleanFields, type LogLevel, secretFields, struckOut } from "@switchyard/protocol";
import { type DestinationStream, destination, pino } from "pino";
import type { Clock } from "./clock.ts";

export type Write = (event: string, fields?: Record<string, unknown>) => void;

export interface WorkerLog {
  info: Write;
  warn: Write;
  /** Lines about single jobs; absent where they are not wanted. */
  debug?: Write;
}

/** Written at once: the last line of a process that dies is the one that is wanted. */
export function pinoLog(
  options: { level: LogLevel; host: string; clock: Pick<Clock, "nowMs"> },
  into: DestinationStream = destination({ dest: 2, sync: true }),
): WorkerLog {
  const { clock, host, level } = options;
  const logger = pino(
    {
      level,
      base: { host },
      timestamp: () => `,"time":"${new Date(clock.nowMs()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }), log: cleanFields },
      redact: { paths: secretFields.flatMap((name) => [name, `*.${name}`]), censor: struckOut },
    },
    into,
  );
  const log: WorkerLog = {
    info: (event, fields) => logger.info({ event, ...fields }),
    warn: (event, fields) => logger.warn({ event, ...fields }),
  };
  if (level === "debug") log.debug = (event, fields) => logger.debug({ event, ...fields });
  return log;
}
