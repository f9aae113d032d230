/**
 * The entry of the process that the official suite is run against: a coordinator on a Redis of its own with one worker, and beside it the product's
 * /mcp, guards included, over the suite's fixtures. Production has no way to load it.
 */

import { InMemoryServerEventBus } from "@modelcontextprotocol/server";
import Fastify from "fastify";
import { prometheusMetrics } from "../../../coordinator/src/adapters/prometheus-metrics.ts";
import { openAccess } from "../../../coordinator/src/application/access.ts";
import { systemClock } from "../../../coordinator/src/clock.ts";
import { startCoordinator } from "../../../coordinator/src/compose.ts";
import { bodyBudget, type DoorParts, doorContext } from "../../../coordinator/src/doors/door-context.ts";
import { refuseForeignPages } from "../../../coordinator/src/doors/foreign-pages.ts";
import { addGuards } from "../../../coordinator/src/doors/guard.ts";
import { addMcp } from "../../../coordinator/src/doors/mcp/serving.ts";
import { sendError } from "../../../coordinator/src/doors/problem.ts";
import { TurnWait } from "../../../coordinator/src/doors/turn-wait.ts";
import { startProcesses } from "../../support/processes.ts";
import { startTestRedis } from "../../support/redis.ts";
import { emptyRepository, slowModelOf } from "../../support/timed-models.ts";
import { failingGraph } from "./fixtures/failing-graph.ts";
import { fixtureMaker } from "./fixtures/fixture-server.ts";
import { failingModel, timedModels } from "./fixtures/tasks.ts";

const maxBodyBytes = 8 << 20;
const loopback = { host: "127.0.0.1", port: 0 };
const log = (event: string, fields?: object): void => console.error(event, JSON.stringify(fields ?? {}));
const logs = { info() {}, warn: log, error: log };

await using cleanup = new AsyncDisposableStack();
const redis = await startTestRedis();
cleanup.defer(() => redis.stop());
const repository = cleanup.use(await emptyRepository());
for (const [seconds, ms] of timedModels) await repository.add(`slow-${seconds}`, await slowModelOf(ms));
await repository.add(failingModel, failingGraph());
const metrics = prometheusMetrics({ version: "1.0.0", processMetrics: false });
const resultTtlMs = 3_600_000;
const coordinator = await startCoordinator({
  redisUrl: redis.url,
  modelsFolder: repository.folder,
  blobs: { folder: repository.folder },
  inputFiles: "auto",
  dataFolder: repository.folder,
  http: loopback,
  metricsAddress: loopback,
  maxBodyBytes,
  maxJsonBytes: maxBodyBytes,
  maxModelBytes: maxBodyBytes,
  resultTtlMs,
  mostQueueJobs: 1_000,
  mostQueueBytes: 1 << 28,
  mcpModelTools: 40,
  corsOrigins: [],
  expectedHosts: 1,
  version: "1.0.0",
  clock: systemClock,
  log: logs,
  metrics,
});
cleanup.defer(() => coordinator.drain(2_000));
const processes = await startProcesses({ coordinators: 0, workers: 1, redis, models: repository.folder });
cleanup.defer(() => processes.stop());

const turns = new TurnWait(systemClock);
const parts = {
  jobs: coordinator.jobs,
  access: openAccess,
  models: { versions: () => [] } as unknown as DoorParts["models"], // of which no fixture has labels
  bodies: bodyBudget({ maxBodyBytes }),
  config: { maxBodyBytes, corsOrigins: [], resultTtlMs },
  clock: systemClock,
  turns,
  metrics,
  log: logs,
  leaving: () => false,
  draining: () => false,
  version: "1.0.0",
} as Partial<DoorParts> as DoorParts; // all that /mcp itself looks at
const context = doorContext(parts, () => false);
const app = Fastify({ logger: false, bodyLimit: maxBodyBytes });
app.removeAllContentTypeParsers();
app.addContentTypeParser("*", (_request, _payload, done) => done(null, undefined));
app.setErrorHandler((error, request, reply) => sendError(error, request, reply, context.log));
refuseForeignPages(app, { origins: [], probes: new Set() });
addGuards(app, openAccess);
const bus = new InMemoryServerEventBus();
addMcp(app, context, async () => ({ make: fixtureMaker(context, bus), bus }));
await app.listen(loopback);
cleanup.defer(async () => {
  await app.close();
  turns.stop();
});
const address = app.server.address();
console.log(`fixtures at http://localhost:${typeof address === "object" ? address?.port : ""}/mcp`);
await new Promise<void>((resolve) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
});
