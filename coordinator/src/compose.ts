/** Puts a coordinator together and takes it apart again: the one place that knows every part. Loops are listed here, all of them. */

import { isLoopback } from "@switchyard/protocol";
import type { LoopClock } from "@switchyard/protocol/event-loop";
import { newIncarnation, type RedisTarget, redisPlace } from "@switchyard/protocol/redis";
import { BullmqTickets } from "./adapters/bullmq-tickets.ts";
import { FilesystemModels } from "./adapters/filesystem-models.ts";
import { GraphProcess } from "./adapters/graph-process.ts";
import { InputFileKeeper } from "./adapters/input-file-keeper.ts";
import { KeyFile } from "./adapters/key-file.ts";
import { LocalInputFiles } from "./adapters/local-input-files.ts";
import type { PrometheusMetrics } from "./adapters/prometheus-metrics.ts";
import { RedisAliases } from "./adapters/redis-aliases.ts";
import { RedisConnection, RedisSubscription } from "./adapters/redis-connection.ts";
import { RedisDrains } from "./adapters/redis-drains.ts";
import { RedisDurability } from "./adapters/redis-durability.ts";
import { RedisFigures } from "./adapters/redis-figures.ts";
import { RedisHostToken } from "./adapters/redis-host-token.ts";
import { RedisHosts } from "./adapters/redis-hosts.ts";
import { RedisJobStore } from "./adapters/redis-job-store.ts";
import { RedisModelStates } from "./adapters/redis-model-states.ts";
import { RedisModelStatistics } from "./adapters/redis-model-statistics.ts";
import { type Changed, RedisModels } from "./adapters/redis-models.ts";
import { RedisPlacement } from "./adapters/redis-placement.ts";
import { RedisResponseCache } from "./adapters/redis-response-cache.ts";
import { RedisRunHistory } from "./adapters/redis-run-history.ts";
import { RedisServerFigures } from "./adapters/redis-server-figures.ts";
import { RedisSharedSecret } from "./adapters/redis-shared-secret.ts";
import { RedisToolAudit } from "./adapters/redis-tool-audit.ts";
import { RedisToolConsents } from "./adapters/redis-tool-consents.ts";
import { RedisUploads } from "./adapters/redis-uploads.ts";
import { ToolServerFile } from "./adapters/tool-server-file.ts";
import { readYaml } from "./adapters/yaml-document.ts";
import { KeyedAccess, openAccess } from "./application/access.ts";
import { CacheTallies } from "./application/cache-tallies.ts";
import { ClusterFigures } from "./application/cluster-figures.ts";
import { DeadLetters } from "./application/dead-letters.ts";
import { DurableJobs } from "./application/durable-jobs.ts";
import { Figures } from "./application/figures.ts";
import { Forecasts } from "./application/forecasts.ts";
import { Forgetting } from "./application/forgetting.ts";
import { figuresOf } from "./application/job-figures.ts";
import { JobJournal } from "./application/job-journal.ts";
import { Jobs } from "./application/jobs.ts";
import { Loops } from "./application/loop.ts";
import { ModelAliases } from "./application/model-aliases.ts";
import { ModelControl } from "./application/model-control.ts";
import { ModelLoads } from "./application/model-loads.ts";
import { ModelUploads } from "./application/model-uploads.ts";
import { Overview } from "./application/overview.ts";
import { Placer } from "./application/placer.ts";
import { CachedResponses } from "./application/response-cache.ts";
import { Shadows } from "./application/shadows.ts";
import { Sweeper } from "./application/sweeper.ts";
import { ToolCalls } from "./application/tool-calls.ts";
import { ToolConsentDesk } from "./application/tool-consent-desk.ts";
import { ToolServers } from "./application/tool-servers.ts";
import type { ToolService } from "./application/tool-service.ts";
import { VersionRemoval } from "./application/version-removal.ts";
import { StatisticsOfVersions } from "./application/version-statistics.ts";
import { Waiters } from "./application/waiters.ts";
import { betweenMomentsMs, type Clock, type MomentClock } from "./clock.ts";
import { type BlobPlace, shownPlace } from "./config.ts";
import { bodyBudget, type DoorParts } from "./doors/door-context.ts";
import { createGrpcServer, type GrpcServer } from "./doors/grpc-server.ts";
import { createHttpServer, type HttpServer } from "./doors/http-server.ts";
import type { Place } from "./doors/listening.ts";
import { createMetricsServer, type MetricsServer } from "./doors/metrics-server.ts";
import { SiblingDoors } from "./doors/sibling-doors.ts";
import { TurnWait } from "./doors/turn-wait.ts";
import { openBlobs } from "./open-blobs.ts";
import type { InputFileUse } from "./ports/input-files.ts";
import type { JobNotice } from "./ports/job-store.ts";
import type { Log } from "./ports/log.ts";
import type { Metrics, Outcome } from "./ports/metrics.ts";
import type { ToolConnector } from "./ports/tool-servers.ts";
import type { Tracing } from "./ports/tracing.ts";

export interface CoordinatorOptions {
  redisUrl: RedisTarget;
  modelsFolder: string;
  blobs: BlobPlace;
  inputFiles: InputFileUse;
  /** For files while they come. */
  dataFolder: string;
  http: Place;
  /** Absent: no gRPC. */
  grpc?: Place;
  /** Other coordinators of this machine listen on these two addresses, too. */
  isShared?: boolean;
  metricsAddress: Place;
  maxBodyBytes: number;
  maxJsonBytes: number;
  maxModelBytes: number;
  resultTtlMs: number;
  /** Bounds of each queue: jobs that wait, and the bytes of their inputs. */
  mostQueueJobs: number;
  mostQueueBytes: number;
  /** Models that have a tool of their own in the Model Context Protocol, as long as there are not more. */
  mcpModelTools: number;
  corsOrigins: string[];
  /** Where the built console lies; absent: none is served. */
  consoleFolder?: string;
  /** Without one everybody who reaches the address may do everything. */
  apiKeysFile?: string;
  /** Names the MCP servers whose tools are used; absent: none are. */
  toolServersFile?: string;
  expectedHosts: number;
  version: string;
  clock: Clock & LoopClock & MomentClock;
  log: Log;
  metrics: PrometheusMetrics;
  /** Absent: nothing is traced. Closed with the coordinator. */
  tracing?: Tracing;
}

export interface Coordinator {
  /** Where it answers, as http://host:port. */
  url: string;
  metricsUrl: string;
  /** host:port; absent without gRPC. */
  grpcAddress?: string;
  jobs: Jobs;
  /** Refuses new work, lets held calls end, tells those that have not after `limitMs`, stops the loops, closes. */
  drain(limitMs: number): Promise<void>;
}

/** About one, in step with all that is done every so often. */
const secondMs = 4 * betweenMomentsMs;
const rescanMs = 22 * betweenMomentsMs;
/** What another coordinator took is known here after this time. */
const lookForUploadsMs = secondMs / 2;
/** As often as metrics are usually read, at most. */
const lookAtClusterMs = 2 * secondMs;
/** For which a coordinator that is asked to end serves those who have not noticed yet. */
const mostLeavingMs = 2_000;
/** Of an address that is shared, for which a coordinator that has just started leaves it to the others; then whoever asks is told what is missing. */
const mostUnknowingMs = 5_000;
const lookAtReadinessMs = 20;
/** A change of the key file is taken over by the second look that sees it. */
const lookAtKeysMs = secondMs / 2;
/** As of the key file. */
const lookAtToolServersMs = secondMs / 2;
/** How soon those who watch a server's health hear of a change. */
const lookAtHealthMs = betweenMomentsMs;
/** As soon as hosts tell theirs. */
const tellTalliesMs = 150;
/** Between two steps, each of which takes Redis the better part of a millisecond. */
const forgetEveryMs = 2;
/** How long an end waits for a disk. */
const lastSyncMs = 2_000;
/** How long an end waits for a collector. */
const lastSpansMs = 2_000;
/** Held calls that are told to go have this long to hear of it. */
const lastAnswersMs = 3_000;

export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { clock, isShared = false, log, redisUrl, tracing } = options;
  const journal = log.debug && new JobJournal(log.debug);
  const keys = options.apiKeysFile === undefined ? undefined : new KeyFile({ path: options.apiKeysFile, log });
  const redis = new RedisConnection(redisUrl, "switchyard-coordinator", clock);
  const subscription = new RedisSubscription(redisUrl, "switchyard-coordinator-notices", clock);
  for (const warning of await redis.open()) log.warn("store_configuration", { message: warning });

  const coordinator = newIncarnation();
  const siblings = isShared ? new SiblingDoors(options.dataFolder, coordinator) : undefined;
  const figures = new Figures({ board: new RedisFigures(redis, coordinator), nowMs: () => redis.nowMs() });
  const metrics = figures.counting(options.metrics);
  const hosts = new RedisHosts(redis);
  const uploadStore = new RedisUploads(redis);
  const aliasStore = new RedisAliases(redis);
  const stateStore = new RedisModelStates(redis);
  const chance = (): number => clock.jitter();
  const models = new RedisModels(redis, hosts, { uploads: uploadStore, aliases: aliasStore, states: stateStore, chance });
  hosts.knowQueues((tag) => models.versionOf(tag));
  const tickets = new BullmqTickets({ url: redisUrl, routeOf: (tag, reach) => hosts.route(tag, reach), metrics });
  const storeClock = { nowMs: () => redis.nowMs(), after: (ms: number, run: () => void) => clock.after(ms, run) };
  const { blobs, sweepMs } = await openBlobs({ ...options, clock: storeClock });
  const tellsTraces = tracing !== undefined || journal !== undefined;
  const files = "folder" in options.blobs ? new LocalInputFiles({ blobsFolder: options.blobs.folder, clock }) : undefined;
  const store = new RedisJobStore({ redis, subscription, tickets, coordinator, blobs, files, tellsTraces });
  const durable = new RedisDurability({ redis, target: redisUrl, clock, blobs });
  const waiters = new Waiters(store, clock);
  const forecasts = new Forecasts({
    history: new RedisRunHistory(redis),
    hosts,
    models,
    store,
    clock,
    mostQueueJobs: options.mostQueueJobs,
    mostQueueBytes: options.mostQueueBytes,
  });
  const forgetting = new Forgetting(store);
  const sweeper = new Sweeper({
    store,
    clock,
    hosts,
    models,
    tickets,
    metrics,
    log,
    onIdle: (tag) => forecasts.idle(tag),
    onOver: (tag) => forgetting.note(tag),
  });
  const onAdmitting = (tag: string): void => sweeper.remember(tag);
  const onAdmitted = (tag: string): void => sweeper.noteOpen(tag);
  const cache = new RedisResponseCache({ redis, tickets, metrics, coordinator });
  const statistics = new RedisModelStatistics(redis, coordinator);
  const tallies = new CacheTallies(statistics);
  const cached = new CachedResponses({ cache, store, hosts, models, waiters, forecasts, metrics, tallies, clock, log, onAdmitted });
  const jobs = new Jobs({
    store,
    forecasts,
    cached,
    durable,
    models,
    hosts,
    waiters,
    clock,
    metrics,
    resultTtlMs: options.resultTtlMs,
    onAdmitting,
    onAdmitted,
    expectedHosts: options.expectedHosts,
    shadows: new Shadows({ models, metrics, chance }),
    ...(tracing && { tracing }),
    ...(journal && { journal }),
  });

  const board = new RedisPlacement(redis, newIncarnation());
  const cluster = new ClusterFigures({
    ...{ hosts, jobs: store, stores: new RedisServerFigures(redis), metrics, clock },
    openTags: () => sweeper.openTags(),
  });
  const onLead = (leads: boolean): void => cluster.noteLead(leads);
  const placer = new Placer({ hosts, models, board, openQueues: (tags) => store.openQueues(tags), clock, log, onLead });
  const loads = new ModelLoads({ models, hosts, board, clock });

  await store.onNotice((notice) => {
    waiters.onNotice(notice);
    cached.onNotice(notice);
    forecasts.ended(notice);
    if (!notice.counts) return;
    if (tracing) tracing.during(notice.trace?.context, () => countOutcome(notice));
    else countOutcome(notice);
    journal?.ended(notice, models.modelOf(notice.id));
  });
  function countOutcome(notice: JobNotice): void {
    const model = models.modelOf(notice.id);
    if (model === undefined) return;
    figures.ended(notice);
    metrics.finished(models.has(model) ? model : undefined, notice.class, notice.state as Outcome, figuresOf(notice));
    if (tracing && notice.trace) tracing.jobEnded({ ...notice, trace: notice.trace, model });
  }
  redis.onHealth((answering) => {
    metrics.storeAnswering(answering);
    log[answering ? "info" : "warn"](answering ? "store_answers" : "store_away");
    if (!answering) waiters.storeAway();
  });
  metrics.storeAnswering(true);
  redis.onRoundtrip((ms) => metrics.storeRoundtrip(ms / 1_000));

  const repository = new FilesystemModels({ root: options.modelsFolder });
  const reported = new Set<string>();
  function tellChanged({ added, removed }: Changed): void {
    for (const model of added) metrics.modelKnown(model);
    for (const model of removed) metrics.modelGone(model);
  }
  const lookForUploads = async (): Promise<void> => tellChanged(await models.look());
  async function rescan(): Promise<void> {
    let found = await repository.scan();
    // a file that is being written, or was a moment ago: what is published should be whole, and at the first scan complete
    for (let tries = 0; tries < 2 && found.problems.some((problem) => problem.passing); tries++) {
      await clock.sleep(1_000);
      found = await repository.scan();
    }
    const { problems, versions } = found;
    tellChanged(await models.publish(versions));
    for (const { path, problem } of problems) {
      if (!reported.has(`${path} ${problem}`)) log.warn("repository_problem", { path, problem });
      reported.add(`${path} ${problem}`);
    }
  }

  async function tendBlobs(): Promise<void> {
    const other = await store.announceBlobs();
    if (other !== undefined)
      log.warn("blob_folder_differs", { folder: shownPlace(options.blobs), detail: "coordinators must share one folder" });
    // one time for both: what is swept has been kept on as of then, whatever became of clocks and machines in between
    const nowMs = await redis.askedNowMs();
    await uploads.keepFiles(nowMs);
    await blobs.sweep(nowMs);
  }
  const uploads = new ModelUploads({
    ...{ store: uploadStore, blobs, inspector: new GraphProcess(clock), models, takeOver: lookForUploads, readYaml, log },
  });

  const hostToken = new RedisHostToken(redis);
  const access = keys ? new KeyedAccess({ keys, hosts: hostToken, clock }) : openAccess;
  if (keys) await hostToken.announce();

  const aliases = new ModelAliases({
    ...{ store: aliasStore, models, uploads: uploadStore, loads, takeOver: lookForUploads, clock, log },
  });
  const removal = new VersionRemoval({
    ...{
      uploads: uploadStore,
      aliases: aliasStore,
      states: stateStore,
      models,
      jobs: store,
      statistics,
      takeOver: lookForUploads,
      clock,
      log,
    },
  });
  // for every door that has the repository extension
  const control = new ModelControl({ store: stateStore, models, uploads, loads, takeOver: lookForUploads, rescan, clock, log });

  const toolServers =
    options.toolServersFile === undefined ? undefined : openToolServers(options, { path: options.toolServersFile, metrics });
  const tools = toolServers && toolService(toolServers.servers, { redis, clock, metrics, log });

  let listening = false;
  let leaving = false;
  let draining = false;
  const turns = new TurnWait(clock, (turn) => options.metrics.turnTook(turn));
  const doors: DoorParts = {
    jobs,
    deadLetters: new DeadLetters({ jobs, durable: new DurableJobs(durable), store }),
    statistics: new StatisticsOfVersions({ statistics, models, clock }),
    models,
    hosts,
    drains: new RedisDrains(redis),
    overview: new Overview({ figures, forecasts, hosts, jobs, models, store }),
    access,
    blobs,
    uploads,
    removal,
    aliases,
    control,
    secret: new RedisSharedSecret(redis, clock),
    ...(siblings && { siblings }),
    ...(tools && { tools }),
    bodies: bodyBudget(options),
    ...(options.consoleFolder !== undefined && { consoleFolder: options.consoleFolder }),
    config: {
      maxBodyBytes: options.maxBodyBytes,
      maxJsonBytes: options.maxJsonBytes,
      maxModelBytes: options.maxModelBytes,
      corsOrigins: options.corsOrigins,
      mostModelTools: options.mcpModelTools,
      resultTtlMs: options.resultTtlMs,
    },
    clock,
    turns,
    metrics,
    log,
    ...(tracing && { tracing }),
    leaving: () => leaving,
    draining: () => draining,
    version: options.version,
  };
  function unready(): string | undefined {
    if (leaving) return "draining";
    const [failed] = jobs.unready();
    if (failed) return `${failed.check}: ${failed.detail}`;
    return listening ? undefined : "its address is not open yet";
  }
  const http: HttpServer = createHttpServer(doors);
  const grpc: GrpcServer | undefined = options.grpc && createGrpcServer(doors);
  const metricsServer: MetricsServer = createMetricsServer(metrics, unready);
  const metricsAt = await metricsServer.listen(options.metricsAddress);
  if (siblings) await http.listenAlone(await siblings.prepare());

  const loops = new Loops(clock, log);
  const inStep = true;
  loops.start({ name: "repository", everyMs: rescanMs, inStep, call: rescan });
  loops.start({ name: "uploads", everyMs: lookForUploadsMs, inStep, call: lookForUploads });
  loops.start({ name: "removals", everyMs: secondMs, inStep, call: () => removal.endAbandoned() });
  loops.start({ name: "sweeper", everyMs: betweenMomentsMs, inStep, call: () => sweeper.round() });
  loops.start({ name: "forecasts", everyMs: secondMs, inStep, call: () => forecasts.refresh() });
  loops.start({ name: "placement", everyMs: secondMs, inStep, call: () => placer.round() });
  loops.start({ name: "cluster-figures", everyMs: lookAtClusterMs, inStep, call: () => cluster.round() });
  if (files) {
    const keeper = new InputFileKeeper({
      ...{ redis, files, use: options.inputFiles, clock, log },
      isRedisHere: redisPlace(redisUrl).nodes.every(({ host }) => isLoopback(host)),
      sight: () => blobs.id().then(() => files.sight()),
      hostSights: () => hosts.blobFolders(),
    });
    loops.start({ name: "input-files", everyMs: secondMs, inStep, call: () => keeper.round() });
    loops.start({ name: "input-files-sync", everyMs: secondMs, inStep, call: () => files.sync() });
    loops.start({ name: "input-files-over", everyMs: secondMs, inStep, call: async () => keeper.letGo() });
  }
  loops.start({ name: "blobs", everyMs: sweepMs, jitter: 0.2, call: tendBlobs });
  if (keys) loops.start({ name: "api-keys", everyMs: lookAtKeysMs, inStep, call: () => keys.look() });
  if (toolServers) loops.start({ name: "mcp-servers", everyMs: lookAtToolServersMs, inStep, call: () => toolServers.file.look() });
  if (grpc) loops.start({ name: "grpc-health", everyMs: lookAtHealthMs, inStep, call: async () => grpc.lookAtHealth() });
  loops.start({ name: "cache-tallies", everyMs: tellTalliesMs, wanted: (signal) => tallies.some(signal), call: () => tallies.tell() });
  loops.start({ name: "forgetting", everyMs: forgetEveryMs, wanted: (signal) => forgetting.some(signal), call: () => forgetting.step() });
  loops.start({ name: "figures", everyMs: secondMs, inStep, call: () => figures.leave() });
  loops.start({ name: "waiters", everyMs: 50, wanted: (signal) => waiters.someone(signal), call: () => waiters.tick() });

  // others serve there already: one that knows no models and hosts yet would refuse what they take
  const openByMs = clock.monotonicMs() + (isShared ? mostUnknowingMs : 0);
  while (jobs.unready().length > 0 && clock.monotonicMs() < openByMs) await clock.sleep(lookAtReadinessMs);
  // last, and together, what others may have, too: one that cannot open the rest must not take calls and go
  const grpcAt = options.grpc && (await grpc?.listen({ ...options.grpc, isShared }));
  const at = await http.listen({ ...options.http, isShared });
  listening = true;

  return {
    url: urlOf(at),
    metricsUrl: urlOf(metricsAt),
    ...(grpcAt && { grpcAddress: placeOf(grpcAt) }),
    jobs,
    async drain(limitMs) {
      const startedMs = clock.monotonicMs();
      leaving = true;
      await http.quiet(Math.min(mostLeavingMs, limitMs / 2));
      draining = true;
      const over = new AbortController();
      void Promise.allSettled([http.close(), grpc?.close(), metricsServer.close()]).then(() => over.abort());
      await clock.sleep(Math.max(0, limitMs - (clock.monotonicMs() - startedMs)), over.signal);
      http.endHeld();
      grpc?.endHeld();
      await clock.sleep(lastAnswersMs, over.signal);
      turns.stop();
      const toolServersClosed = toolServers?.servers.close();
      await loops.stop();
      // with the store away they are lost, as after a crash
      await tallies.tell().catch(() => {});
      await figures.leave({ all: true }).catch(() => {});
      await toolServersClosed;
      if (files) {
        // what is still open is of jobs that may outlive this machine's next start
        await Promise.race([files.sync({ all: true }).catch(() => {}), clock.sleep(lastSyncMs)]);
        files.letAllGo();
      }
      await tickets.close();
      subscription.close();
      durable.close();
      await redis.close();
      if (tracing) await Promise.race([tracing.close(), clock.sleep(lastSpansMs)]);
    },
  };
}

/** The library is loaded with the first server. Throws with every mistake in the file. */
function openToolServers(
  { clock, log, version }: CoordinatorOptions,
  { metrics, path }: { metrics: Metrics; path: string },
): { servers: ToolServers; file: ToolServerFile } {
  let connector: Promise<ToolConnector> | undefined;
  const servers = new ToolServers({
    connector: () => {
      connector ??= import("./adapters/mcp-client.ts").then(({ McpClients }) => new McpClients({ clock, log, version }));
      return connector;
    },
    clock,
    log,
    metrics,
  });
  const file = new ToolServerFile({ path, env: process.env, log, onChange: (wanted) => servers.configure(wanted) });
  file.open();
  return { servers, file };
}

function toolService(
  servers: ToolServers,
  { redis, ...parts }: { redis: RedisConnection; clock: Clock; metrics: Metrics; log: Log },
): ToolService {
  const audit = new RedisToolAudit(redis);
  const desk = new ToolConsentDesk({ consents: new RedisToolConsents(redis), audit, log: parts.log });
  return { servers, desk, audit, calls: new ToolCalls({ servers, desk, clock: parts.clock, metrics: parts.metrics }) };
}

const placeOf = ({ host, port }: Place): string => `${host.includes(":") ? `[${host}]` : host}:${port}`;

function urlOf(at: Place): string {
  return `http://${placeOf(at)}`;
}
