/** Entry of a worker process: configuration, connections, the host, and an orderly end. */

import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { resolve } from "node:path";
import { memoryBytesOf } from "@switchyard/protocol";
import { TurnTimes } from "@switchyard/protocol/event-loop";
import { giveBackMemory } from "@switchyard/protocol/garbage";
import { keys, newIncarnation, type RedisTarget, shownAddress, storeFormat } from "@switchyard/protocol/redis";
import { attemptJournal } from "./attempt-journal.ts";
import { modelMemoryMb } from "./capabilities/device.ts";
import { findGpus } from "./capabilities/nvidia-smi.ts";
import { systemClock } from "./clock.ts";
import { hostIdAt, readConfig, type WorkerConfig } from "./config.ts";
import { asksForHelp, helpText } from "./config-help.ts";
import { type HealthServer, openHealthServer } from "./health-server.ts";
import { Host } from "./host.ts";
import { HostMetrics } from "./host-metrics.ts";
import { pinoLog, type Write } from "./pino-log.ts";
import type { RedisClient } from "./redis-client.ts";
import { hostConnection, leaveFrozenServers } from "./redis-connection.ts";
import type { Following } from "./runner/followed-batch.ts";

/** Exit code of a process that must be started anew: the cluster gave this incarnation up. */
const exitLost = 75;
const redisAnswersMs = 5_000;
/** For workers that are started by hand on one machine: each keeps the port, and with it the id, that it got first. */
const portsInTurn = 8;
/** How long an end waits for a collector. */
const lastSpansMs = 2_000;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };

/** What an operator should read. */
const warnings = new Set([
  "drain_timed_out",
  "host_id_shared",
  "lost",
  "model_failed",
  "runner_trouble",
  "spans_lost",
  "start_failed",
  "ticket_failed",
]);

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

/** Why Redis does not answer, if it does not within a few seconds; later the host waits for it, but a wrong address is told at once. */
async function whyUnusable(connection: RedisClient): Promise<string | undefined> {
  let why = `it does not answer within ${redisAnswersMs / 1_000} s`;
  const remember = (error: Error & { lastNodeError?: Error }): void => {
    why = error.lastNodeError?.message ?? error.message; // a cluster's client says first that it has no map
  };
  connection.on("error", remember);
  const answered = connection.get(keys.format).then(
    (format) => {
      if (format === null || format === storeFormat) return true;
      why = `it holds jobs in layout ${format}, and this version reads layout ${storeFormat}`;
      return false;
    },
    (error: Error) => {
      remember(error);
      return false;
    },
  );
  const usable = await Promise.race([answered, systemClock.sleep(redisAnswersMs).then(() => false)]);
  connection.off("error", remember);
  return usable ? undefined : why;
}

async function healthOrExit({ hostId, metrics: address }: WorkerConfig): Promise<HealthServer> {
  try {
    return await openHealthServer(address, { inTurn: hostId === undefined ? portsInTurn : 1 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    process.stderr.write(`${address.host}:${address.port} (SWITCHYARD_METRICS or --metrics) cannot be used: ${code ?? message}\n`);
    process.exit(2);
  }
}

const config = configOrExit();
const health = await healthOrExit(config);
const hostId = config.hostId ?? hostIdAt(health.port);
giveBackMemory();
const incarnation = newIncarnation();
const lines = pinoLog({ level: config.logLevel, host: hostId, clock: systemClock });
const log: Write = (event, fields) => (warnings.has(event) ? lines.warn : lines.info)(event, fields);
const metrics = new HostMetrics({ version, host: hostId });
new TurnTimes(systemClock, (turn) => metrics.turnTook(turn));
// the libraries are loaded only where somebody wants traces
const traces =
  config.tracing &&
  new (await import("./opentelemetry-traces.ts")).OpentelemetryTraces(
    config.tracing,
    { version, host: hostId, incarnation },
    {
      count: (result, spans) => metrics.spans(result, spans),
      failing: (why) => log("spans_lost", { error: why }),
      delivering: () => log("spans_delivered"),
    },
  );
if (config.tracing) log("tracing", { collector: new URL(config.tracing.endpoint).origin });
const journal = lines.debug && attemptJournal(lines.debug);
const following: Following | undefined = journal ? "all" : traces && "traced";
const target: RedisTarget = { url: config.redisUrl, tls: config.redisTls };
const redis = hostConnection(target, `switchyard-host-${hostId}`);
leaveFrozenServers(redis, target, systemClock);

/** Started with the process, so that it can be told to end while Redis does not answer yet. */
let host: Host | undefined;
let stopping = false;
async function stop(why: string): Promise<void> {
  stopping = true;
  log("draining", { why });
  const end = await host?.drain(config.drainMs);
  if (traces) await Promise.race([traces.close(), systemClock.sleep(lastSpansMs)]);
  endProcess(0, end ?? { quiet: true });
}

/** A process that exits while ONNX Runtime runs on its thread crashes, with a core dump; one that is killed just ends. */
function endProcess(code: number, { quiet }: { quiet: boolean }): void {
  if (quiet) process.exit(code);
  process.kill(process.pid, "SIGKILL");
}

/** The first asks for an orderly end, the second for one within a second, the third for one at once. */
let signals = 0;
async function onSignal(name: NodeJS.Signals): Promise<void> {
  signals += 1;
  if (signals === 1) return stopping ? undefined : stop(name);
  if (signals === 2) {
    log("abandoning", { why: `${name} again` });
    await host?.abandon();
  }
  endProcess(130, { quiet: host === undefined });
}
process.on("SIGTERM", () => void onSignal("SIGTERM"));
/** Terminal and launcher both deliver a Ctrl-C: repeats within this time are one. */
const oneInterruptMs = 400;
let interruptedMs = -Infinity;
process.on("SIGINT", () => {
  const nowMs = systemClock.monotonicMs();
  if (nowMs - interruptedMs < oneInterruptMs) return;
  interruptedMs = nowMs;
  void onSignal("SIGINT");
});
if (config.parentPipe !== undefined) {
  // the supervisor holds the other end: when it dies, so do we, in order
  const pipe = new Socket({ fd: config.parentPipe, readable: true, writable: false });
  const gone = (): void => {
    if (!stopping) void stop("the supervisor is gone");
  };
  pipe.on("end", gone);
  pipe.on("error", gone);
  pipe.resume();
}

const finding = findGpus(systemClock);
const unusable = await whyUnusable(redis);
if (unusable !== undefined && !stopping) {
  process.stderr.write(`Redis at ${shownAddress(target)} (SWITCHYARD_REDIS_URL or --redis-url) cannot be used: ${unusable}\n`);
  process.exit(1);
}

health.serve({
  metrics,
  unready: () => (host ? host.unready() : "the worker has not registered yet"),
  started: () => host?.registered() ?? false,
});

const { gpus, problem } = await finding;
if (problem !== undefined) log("gpus_unknown", { problem });

const memoryMb = Math.round(memoryBytesOf({ limitBytes: process.constrainedMemory(), machineBytes: totalmem() }) / 1024 / 1024);
const cacheBytes = config.cacheBytes ?? modelMemoryMb({ providers: config.providers, gpus, memoryMb }) * 1024 * 1024;
host = new Host({
  redis,
  clock: systemClock,
  metrics,
  log,
  facts: {
    id: hostId,
    incarnation,
    cores: availableParallelism(),
    memoryMb,
    modelMemoryMb: Math.round(cacheBytes / 1024 / 1024),
    mostModels: config.cacheModels,
    gpus,
    frameworks: ["onnx", ...Object.keys(config.bridges)],
    labels: config.labels,
    metrics: health.at,
    version,
  },
  runner: {
    redisUrl: target,
    incarnation,
    hostId,
    modelsFolder: resolve(config.modelsFolder),
    blobsFolder: resolve(config.blobsFolder),
    coordinatorUrl: config.coordinatorUrl,
    fetchedFolder: resolve(config.fetchedFolder),
    lingerMs: config.lingerMs,
    cacheBytes,
    cacheModels: config.cacheModels,
    fetchedBytes: config.fetchedBytes,
    threads: config.threads ?? availableParallelism(),
    providers: config.providers,
    bridges: config.bridges,
    bridgeTimeoutMs: config.bridgeTimeoutMs,
    ...(following && { following }),
  },
  ...(following && {
    onFollowed(told, of) {
      journal?.(told, of);
      if (told.kind === "settled") traces?.settled(told, of);
    },
  }),
  onLost: (why, end) => {
    metrics.presenceLost();
    log("lost", { why });
    endProcess(exitLost, end);
  },
});
if (!stopping) {
  await host.start().catch((error: Error) => {
    log("start_failed", { message: error.message });
    endProcess(1, { quiet: false });
  });
}
