/** Entry of a worker process: configuration, connections, the host, and an orderly end. */

import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { resolve } from "node:path";
import { newIncarnation } from "@switchyard/protocol/redis";
import { systemClock } from "./clock.ts";
import { readConfig, type WorkerConfig } from "./config.ts";
import { asksForHelp, helpText } from "./config-help.ts";
import { startHealthServer } from "./health-server.ts";
import { Host } from "./host.ts";
import { HostMetrics } from "./host-metrics.ts";
import { hostConnection } from "./redis-connection.ts";

/** Exit code of a process that must be started anew: the cluster gave this incarnation up. */
const exitLost = 75;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };

function log(event: string, fields: Record<string, unknown> = {}): void {
  process.stderr.write(`${JSON.stringify({ time: new Date(systemClock.nowMs()).toISOString(), event, ...fields })}\n`);
}

function configOrExit(): WorkerConfig {
  if (asksForHelp(process.argv.slice(2))) {
    process.stdout.write(helpText());
    process.exit(0);
  }
  try {
    return readConfig({ argv: process.argv.slice(2), env: process.env });
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(2);
  }
}

const config = configOrExit();
const incarnation = newIncarnation();
const metrics = new HostMetrics({ version, host: config.hostId });
const redis = hostConnection(config.redisUrl, `switchyard-host-${config.hostId}`, 15_000);

let host: Host | undefined;
const health = await startHealthServer(
  { metrics, ready: () => host?.ready() ?? false, started: () => host?.registered() ?? false },
  config.metrics,
);

host = new Host({
  redis,
  clock: systemClock,
  metrics,
  log,
  facts: {
    id: config.hostId,
    incarnation,
    cores: availableParallelism(),
    memoryMb: Math.round(totalmem() / 1024 / 1024),
    labels: config.labels,
    metrics: health.at,
    version,
  },
  runner: {
    redisUrl: config.redisUrl,
    incarnation,
    hostId: config.hostId,
    modelsFolder: resolve(config.modelsFolder),
    blobsFolder: resolve(config.blobsFolder),
    coordinatorUrl: config.coordinatorUrl,
    lingerMs: config.lingerMs,
    cacheBytes: config.cacheBytes,
    cacheModels: config.cacheModels,
    threads: config.threads ?? availableParallelism(),
    providers: config.providers,
  },
  onLost: (why) => {
    metrics.presenceLost();
    log("lost", { why });
    process.exit(exitLost);
  },
});

let stopping = false;
async function stop(why: string): Promise<void> {
  if (stopping) process.exit(130); // a second signal ends at once
  stopping = true;
  log("draining", { why });
  await host?.drain(config.drainMs);
  process.exit(0);
}
process.on("SIGTERM", () => void stop("SIGTERM"));
process.on("SIGINT", () => void stop("SIGINT"));
if (config.parentPipe !== undefined) {
  // the supervisor holds the other end: when it dies, so do we, in order
  const pipe = new Socket({ fd: config.parentPipe, readable: true, writable: false });
  pipe.on("end", () => void stop("the supervisor is gone"));
  pipe.on("error", () => void stop("the supervisor is gone"));
  pipe.resume();
}

await host.start();
