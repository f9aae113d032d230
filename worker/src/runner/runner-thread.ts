/** Entry of the runner thread: builds its own connections and the model cache, then runs the loop. Talks to the main loop by messages. */

import { parentPort, workerData } from "node:worker_threads";
import { giveBackMemory } from "@switchyard/protocol/garbage";
import { channels, configMark, keys } from "@switchyard/protocol/redis";
import { systemClock } from "../clock.ts";
import { endWhenSilent, hostSubscription, sendTogether, silenceLimits, wireConnection } from "../redis-connection.ts";
import { FetchedModels } from "../runtime/fetched-models.ts";
import { ModelCache } from "../runtime/model-cache.ts";
import { supportedProviders } from "../runtime/onnx-runtime.ts";
import { endModelThreads } from "../runtime/threaded-model.ts";
import { Claims, heardOf } from "./claims.ts";
import { FilesystemBlobs } from "./filesystem-blobs.ts";
import { HttpBlobs } from "./http-blobs.ts";
import { InputFiles } from "./input-files.ts";
import { LargeValues } from "./large-values.ts";
import { LoadMarks } from "./load-marks.ts";
import { ClaimBoard, type FromRunner, type RunnerOptions, type ToRunner } from "./messages.ts";
import { ModelFileSource } from "./model-file-source.ts";
import { RunTallies } from "./run-tallies.ts";
import { Runner } from "./runner.ts";

const port = parentPort;
if (!port) throw new Error("runner-thread.ts is started by runner-handle.ts, as a worker thread");

giveBackMemory();
const options = workerData as RunnerOptions;

/** How long a message about a run may wait for others; not before a run that may keep this thread for longer. */
const togetherMs = 50;
const longRunMs = 5;
let waiting: FromRunner[] = [];
let isFlushPlanned = false;
let lastRunMs = 0;
const tallies = new RunTallies(planFlush);
function tell(message: FromRunner): void {
  if (message.kind === "ran" || message.kind === "settled") {
    waiting.push(message);
    lastRunMs = message.runMs;
    planFlush();
    return;
  }
  flush(); // messages keep their order
  port?.postMessage(message);
}
function planFlush(): void {
  if (isFlushPlanned) return;
  isFlushPlanned = true;
  if (lastRunMs < longRunMs) systemClock.after(togetherMs, flush);
  else queueMicrotask(flush);
}
function flush(): void {
  isFlushPlanned = false;
  const counted = tallies.take();
  if (counted.length > 0) waiting.push({ kind: "counted", tallies: counted });
  if (waiting.length === 0) return;
  port?.postMessage({ kind: "together", messages: waiting } satisfies FromRunner);
  waiting = [];
}

/** Of large values: all jobs of a batch may say the same. */
const troubleEveryMs = 10_000;
let lastTrouble = { message: "", atMs: Number.NEGATIVE_INFINITY };
function trouble(message: string): void {
  const atMs = systemClock.monotonicMs();
  if (message === lastTrouble.message && atMs - lastTrouble.atMs < troubleEveryMs) return;
  lastTrouble = { message, atMs };
  tell({ kind: "trouble", message });
}

// no socketTimeout: a reply may be due while the thread is blocked in a run; the watch knows the difference
const redis = wireConnection(options.redisUrl, `switchyard-runner-${options.hostId}`);
const listener = hostSubscription(options.redisUrl, `switchyard-runner-wake-${options.hostId}`);
const stopWatches = [
  endWhenSilent(redis, systemClock, silenceLimits(options.redisUrl)),
  endWhenSilent(listener, systemClock, silenceLimits(options.redisUrl)),
];

// coordinators let go by the store's clock what is named here
const blobFolder = new FilesystemBlobs({ root: options.blobsFolder, clock: { nowMs: () => runner.keepingFromMs() } });
const { coordinatorUrl } = options;
const remote = coordinatorUrl === undefined ? undefined : new HttpBlobs(coordinatorUrl, () => redis.get(keys.hostToken), { trouble });

/** Once it has been given a ticket, a load may stand in the way of runs. */
let serves = false;
const models = new ModelCache({
  root: options.modelsFolder,
  clock: systemClock,
  maxBytes: options.cacheBytes,
  maxModels: options.cacheModels,
  threads: options.threads,
  providers: options.providers,
  bridges: options.bridges,
  bridgeTimeoutMs: options.bridgeTimeoutMs,
  fetched: new FetchedModels({
    folder: options.fetchedFolder,
    hostId: options.hostId,
    maxBytes: options.fetchedBytes,
    source: new ModelFileSource({ redis, folder: blobFolder, remote }),
    clock: systemClock,
  }),
  marks: new LoadMarks({
    send: (commands) => sendTogether(redis, commands),
    hostId: options.hostId,
    incarnation: options.incarnation,
    nowMs: () => systemClock.nowMs(),
  }),
  isBusy: () => serves,
  onLoaded: (model, version) => {
    const { tag } = version;
    const { maxItems, reason } = model.batching;
    const warmUpMs = [...model.warmUpMs];
    runner.loaded(tag, { warmUp: warmUpMs, maxItems });
    const { loadMs, sizeBytes } = model;
    tell({ kind: "loaded", tag, version, maxItems, reason, loadMs, sizeBytes, config: configMark(version.config), warmUpMs });
  },
  onFailed: (version, reason) => tell({ kind: "load_failed", tag: version.tag, reason }),
  onEvicted: (tag) => tell({ kind: "evicted", tag }),
});

const largeValues = new LargeValues({
  redis,
  files: new InputFiles(options.blobsFolder),
  folder: blobFolder,
  remote,
  trouble,
});

const runner = new Runner({
  claims: new Claims({
    redis,
    incarnation: options.incarnation,
    hostId: options.hostId,
    tellsTraces: options.following !== undefined,
  }),
  largeValues,
  models,
  clock: systemClock,
  lingerMs: options.lingerMs,
  board: new ClaimBoard(options.claimBoard),
  tell,
  tallies,
  ...(options.following && { following: options.following }),
});

port.on("message", (message: ToRunner) => {
  switch (message.kind) {
    case "serve":
      serves = true;
      return runner.serve(message.ticketId, message.version, message.unready);
    case "load":
      models.ensure(message.version).catch(() => {}); // told by onFailed
      return;
    case "keep":
      return models.keep(message.tags);
    case "unload":
      void models.evict(message.version);
      return;
    case "drain":
      return runner.drain();
  }
});

listener.on("messageBuffer", (_channel: Buffer, message: Buffer) => {
  const { handed, tag } = heardOf(message);
  if (handed) runner.handed(handed);
  else runner.wake(tag);
});
const ended = runner.run().then(() => "ended" as const);
// a host that is told to end before it ever had Redis must not wait for it here
const subscribed = listener.subscribe(channels.wake(options.incarnation));
if ((await Promise.race([ended, subscribed])) !== "ended") tell({ kind: "started", providers: await supportedProviders() });
await ended;
flush();
await endModelThreads();
subscribed.catch(() => {});
for (const stop of stopWatches) stop();
redis.disconnect();
listener.disconnect();
port.close();
