/** The log as JSON lines on stderr, by pino: stdout belongs to whoever speaks a protocol on it. The only file that knows pino. */

import { cleanFields, type LogLevel, secretFields, struckOut } from "@switchyard/protocol";
import { type DestinationStream, destination, pino } from "pino";
import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";

/** Written at once: the last line of a process that dies is the one that is wanted. */
export function pinoLog(
  options: { level: LogLevel; clock: Pick<Clock, "nowMs"> },
  into: DestinationStream = destination({ dest: 2, sync: true }),
): Log {
  const { clock, level } = options;
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date(clock.nowMs()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }), log: cleanFields },
      redact: { paths: secretFields.flatMap((name) => [name, `*.${name}`]), censor: struckOut },
    },
    into,
  );
  const log: Log = {
    info: (event, fields) => logger.info({ event, ...fields }),
    warn: (event, fields) => logger.warn({ event, ...fields }),
    error: (event, fields) => logger.error({ event, ...fields }),
  };
  if (level === "debug") log.debug = (event, fields) => logger.debug({ event, ...fields });
  return log;
}
