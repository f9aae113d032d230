/** Entry of a coordinator process: configuration, start, an orderly end. */

import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { TracingSettings } from "@switchyard/protocol";
import { giveBackMemory } from "@switchyard/protocol/garbage";
import { keyFileMistakes } from "./adapters/key-file.ts";
import { pinoLog } from "./adapters/pino-log.ts";
import { prometheusMetrics } from "./adapters/prometheus-metrics.ts";
import { toolServerMistakes } from "./adapters/tool-server-file.ts";
import { systemClock } from "./clock.ts";
import { type Coordinator, startCoordinator } from "./compose.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { asksForHelp, helpText } from "./config-help.ts";
import { watchParent } from "./embedded/parent-pipe.ts";
import type { Metrics } from "./ports/metrics.ts";
import type { Tracing } from "./ports/tracing.ts";

/** Held calls end by their deadlines; longer ones are told to ask again. */
const drainMs = 30_000;

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
/** Made by console/build.ts. */
const consoleFolder = fileURLToPath(new URL("../../console/dist", import.meta.url));

function configOrExit(): Config & { redisUrl: string } {
  if (asksForHelp(process.argv.slice(2))) {
    process.stdout.write(helpText("coordinator"));
    process.exit(0);
  }
  try {
    const config = readConfig({ argv: process.argv.slice(2), env: process.env, keyFileMistakes, toolServerMistakes });
    const { redisUrl } = config;
    if (redisUrl !== undefined) return { ...config, redisUrl };
    process.stderr.write("SWITCHYARD_REDIS_URL (--redis-url): expected redis://host:port; `switchyard up` starts a Redis of its own\n");
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
  }
  process.exit(2);
}

const config = configOrExit();
giveBackMemory();
const log = pinoLog({ level: config.logLevel, clock: systemClock });
let coordinator: Coordinator | undefined;
let stopping = false;

async function stop(why: string): Promise<void> {
  if (stopping) process.exit(130); // a second signal ends at once
  stopping = true;
  log.info("draining", { why });
  await coordinator?.drain(drainMs);
  process.exit(0);
}

/** The libraries are loaded only where somebody wants traces. */
async function openTracing(settings: TracingSettings, metrics: Pick<Metrics, "spans">): Promise<Tracing> {
  const { OpentelemetryTracing } = await import("./adapters/opentelemetry-tracing.ts");
  log.info("tracing", { collector: new URL(settings.endpoint).origin });
  return new OpentelemetryTracing(
    settings,
    { version, instance: randomUUID() },
    {
      count: metrics.spans,
      failing: (why) => log.warn("spans_lost", { error: why }),
      delivering: () => log.info("spans_delivered"),
    },
  );
}

process.on("SIGTERM", () => void stop("SIGTERM"));
/** Terminal and launcher both deliver a Ctrl-C: repeats within this time are one. */
const oneInterruptMs = 400;
let interruptedMs = -Infinity;
process.on("SIGINT", () => {
  const nowMs = systemClock.monotonicMs();
  if (nowMs - interruptedMs < oneInterruptMs) return;
  interruptedMs = nowMs;
  void stop("SIGINT");
});
watchParent(process.env, () => {
  if (!stopping) void stop("the supervisor is gone"); // only a signal asks twice
});

const hasConsole = existsSync(`${consoleFolder}/index.html`);
if (!hasConsole) log.warn("console_absent", { folder: consoleFolder, build: "node console/build.ts" });

try {
  let tracing: Tracing | undefined;
  const metrics = prometheusMetrics({ version, ...(config.tracing && { traceId: () => tracing?.currentTraceId() }) });
  tracing = config.tracing && (await openTracing(config.tracing, metrics));
  coordinator = await startCoordinator({
    redisUrl: { url: config.redisUrl, tls: config.redisTls },
    modelsFolder: config.models,
    blobs: config.blobs,
    inputFiles: config.inputFiles,
    dataFolder: config.data,
    http: config.http,
    ...(config.grpc !== undefined && { grpc: config.grpc }),
    isShared: config.coordinators > 1,
    metricsAddress: config.metrics,
    maxBodyBytes: config.maxBodyBytes,
    maxJsonBytes: config.maxJsonBytes,
    maxModelBytes: config.maxModelBytes,
    mostQueueJobs: config.maxQueueJobs,
    mostQueueBytes: config.maxQueueBytes,
    resultTtlMs: config.resultTtlMs,
    mcpModelTools: config.mcpModelTools,
    corsOrigins: config.corsOrigins,
    ...(hasConsole && { consoleFolder }),
    ...(config.apiKeys !== undefined && { apiKeysFile: config.apiKeys }),
    ...(config.mcpServers !== undefined && { toolServersFile: config.mcpServers }),
    expectedHosts: config.expectedHosts,
    version,
    clock: systemClock,
    log,
    metrics,
    ...(tracing && { tracing }),
  });
  const { url, metricsUrl, grpcAddress } = coordinator;
  log.info("listening", { url, metrics: metricsUrl, ...(grpcAddress !== undefined && { grpc: grpcAddress }) });
} catch (error) {
  log.error("start_failed", { message: (error as Error).message });
  process.stderr.write(`the coordinator cannot start: ${(error as Error).message}\n`);
  process.exit(1);
}
