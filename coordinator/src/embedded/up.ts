/**
 * `switchyard up`: Redis, coordinators and workers on this machine, each a process of its own, kept running and ended in order.
 * Nothing outlives it, not even when it is killed: its children hold pipes from it and drain when these close, and Redis ends when the
 * last of them is gone. It owns the data folder while it runs.
 */

import { spawn } from "node:child_process";
import { closeSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";
import { type RedisTarget, shownAddress } from "@switchyard/protocol/redis";
import { keyFileMistakes } from "../adapters/key-file.ts";
import { RedisConnection } from "../adapters/redis-connection.ts";
import { toolServerMistakes } from "../adapters/tool-server-file.ts";
import { systemClock } from "../clock.ts";
import { type Config, ConfigError, readConfig } from "../config.ts";
import { asksForHelp, helpText } from "../config-help.ts";
import { SiblingDoors } from "../doors/sibling-doors.ts";
import { askForRewrite, CalmRewrites } from "./calm-rewrites.ts";
import { childEnv } from "./child-env.ts";
import { CorePair } from "./core-pair.ts";
import { KeptProcess, type RunningProcess } from "./kept-process.ts";
import { LogTail } from "./log-tail.ts";
import { type Placed, refuseTakenPorts, shown, withPorts } from "./own-addresses.ts";
import { watchParent } from "./parent-pipe.ts";
import { holderOf, type ProcessLock, tryLock } from "./process-lock.ts";
import { createLifeline, DataFolderInUse, findRedis, type Lifeline, type RedisServer, startRedis } from "./redis-server.ts";
import { createTerminal } from "./terminal.ts";

const clock = systemClock;
const terminal = createTerminal(process.stderr, clock);

/** Repeats of a signal within this time are one: terminal and npm both deliver a Ctrl-C. */
const oneSignalMs = 400;
const watchMs = 1_000;
const coordinatorHeadStartMs = 5_000;
/** Longer than a coordinator drains: its last calls are told where to go. */
const graceMs = 35_000;
/** /readyz is asked again when it has not answered by then. */
const readyAnswerMs = 2_000;

async function main(): Promise<void> {
  if (asksForHelp(process.argv.slice(2))) return void process.stdout.write(helpText("up"));
  const config = await withPorts(readConfig({ argv: process.argv.slice(2), env: process.env, keyFileMistakes, toolServerMistakes }));
  const lock = takeDataFolder(config.data);
  try {
    await refuseTakenPorts(config);
    const mistake = config.coordinators > 1 ? SiblingDoors.mistake(config.data) : undefined;
    if (mistake !== undefined) throw new Error(mistake);
    process.exitCode = await run(config);
  } finally {
    lock.release();
  }
}

function takeDataFolder(folder: string): ProcessLock {
  const lock = tryLock(path.join(folder, "up.pid"));
  if ("heldBy" in lock) throw new DataFolderInUse(folder, lock.heldBy);
  return lock;
}

interface Embedded {
  url: string;
  kept: KeptProcess;
  lifeline: Lifeline;
}

interface House {
  config: Placed;
  logs: LogTail[];
  /** What looks after the processes, once a second; it guards against itself, and never throws. */
  watches: { look(): Promise<void> }[];
  /** Ends everything with exit code 1. */
  fail: (message: string) => void;
}

function keep(house: House, name: string, start: () => Promise<RunningProcess>, log: LogTail): KeptProcess {
  return new KeptProcess({
    name,
    start,
    clock,
    onDeath: ({ why, nextMs }) => terminal.say(`${name}: ${why}; starting it again in ${nextMs / 1000} s`),
    onGivenUp(_name, why) {
      const ending = log.ending().map((line) => `  ${line}`);
      house.fail(`${name} died ten times within a minute, last because ${why}. The end of ${log.file}:\n${ending.join("\n")}`);
    },
  });
}

function newLog(house: House, name: string): LogTail {
  const folder = path.join(house.config.data, "logs");
  const show = house.config.verbose ? "all" : name === "redis" ? "nothing" : "warnings";
  const log = new LogTail({ folder, name, show, say: (line) => terminal.say(line) });
  house.logs.push(log);
  return log;
}

async function startEmbeddedRedis(house: House): Promise<Embedded> {
  const { config } = house;
  const binary = await findRedis({
    pathEnv: process.env.PATH ?? "",
    cacheFolder: config.cache,
    onProgress: (message) => terminal.wait(`Redis: ${message}`),
  });
  const dataFolder = path.join(config.data, "redis");
  await waitForOrphan(path.join(dataFolder, "redis.pid"));
  const log = newLog(house, "redis");
  const lifeline = createLifeline();
  const endpoint = path.join(dataFolder, "url");
  let server: RedisServer | undefined;
  const start = async (): Promise<RunningProcess> => {
    const again = server ? { port: server.port, password: server.password } : {};
    const cores = coresToBind(config);
    server = await startRedis({ dataFolder, binary, lifeline, logFile: log.file, ...(cores && { childCores: cores }), ...again });
    writeFileSync(endpoint, server.url, { mode: 0o600 });
    return asRunning(server.pid, server.exited);
  };
  const kept = keep(house, "redis", start, log);
  await kept.start();
  terminal.say(
    `Redis ${binary.version} (${binary.source === "path" ? binary.path : "fetched from the distribution"}), data in ${dataFolder}`,
  );
  const rewrite = (): Promise<void> => askForRewrite(server!.url, clock);
  house.watches.push(new CalmRewrites({ folder: dataFolder, rewrite, clock }));
  return { url: readFileSync(endpoint, "utf8"), kept, lifeline };
}

/** A given Redis that does not answer is said now, not by ten deaths of a coordinator. */
async function mustAnswer(target: RedisTarget): Promise<void> {
  const connection = new RedisConnection(target, "switchyard-up", clock);
  try {
    await connection.open();
  } catch (error) {
    const why = ((error as Error).cause as Error | undefined)?.message ?? (error as Error).message;
    throw new Error(`Redis at ${shownAddress(target)} (SWITCHYARD_REDIS_URL or --redis-url) cannot be used: ${why}`);
  } finally {
    await connection.close();
  }
}

/** After a killed `up` its processes are still draining for a moment; that is no reason to refuse. */
async function waitForOrphan(lockFile: string): Promise<void> {
  for (let waitedMs = 0; waitedMs < graceMs; waitedMs += 100) {
    const pid = holderOf(lockFile);
    if (pid === undefined) return;
    terminal.wait(`Redis: process ${pid} of an earlier start is still ending`);
    await clock.sleep(100);
  }
}

function asRunning(pid: number, exited: RunningProcess["exited"]): RunningProcess {
  let ended = false;
  void exited.then(() => {
    ended = true;
  });
  return {
    pid,
    exited,
    signal(name) {
      if (!ended) process.kill(pid, name);
    },
  };
}

/** One of our own programs as a child: descriptor 3 tells it that we are gone, 4 keeps Redis alive for it. */
function keepProgram(
  house: House,
  program: { name: string; module: string; env: Record<string, string | undefined> },
  lifeline?: Lifeline,
): KeptProcess {
  const log = newLog(house, program.name);
  const start = async (): Promise<RunningProcess> => {
    const file = fileURLToPath(import.meta.resolve(program.module));
    const output = log.open();
    try {
      // A group of its own: a Ctrl-C in the terminal reaches it through us, in order.
      const child = spawn(process.execPath, [...serverNodeFlags, file], {
        env: program.env,
        detached: true,
        stdio: ["ignore", output, output, "pipe", lifeline?.pipe ?? "ignore"],
      });
      const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
        child.once("error", reject);
        child.once("exit", (code, signal) => resolve({ code, signal }));
      });
      child.stdio[3]?.on("error", () => {});
      return { pid: child.pid ?? 0, exited, signal: (name) => void child.kill(name) };
    } finally {
      closeSync(output);
    }
  };
  return keep(house, program.name, start, log);
}

/** Of coordinator and Redis, where both are ours and there is one of each. */
function coresToBind({ bindCores, coordinators, redisUrl }: Config): [number, number] | undefined {
  return bindCores !== "no" && redisUrl === undefined && coordinators === 1 ? CorePair.cores() : undefined;
}

function corePair(config: Config, started: readonly KeptProcess[]): CorePair | undefined {
  const cores = coresToBind(config);
  if (cores === undefined) return undefined;
  const pid = (name: string): number | undefined => started.find((kept) => kept.name === name)?.pid;
  const when = config.bindCores === "always" ? "From now on" : "From now on, under load,";
  return new CorePair({
    cores,
    pids: () => ({ coordinator: pid("coordinator"), redis: pid("redis") }),
    isAlways: config.bindCores === "always",
    clock,
    events: {
      bound: ({ coordinator, redis }) =>
        terminal.say(`${when} the coordinator keeps to core ${coordinator}, and its Redis to core ${redis} (--bind-cores no: never)`),
      failed: (why) => terminal.say(`The coordinator and its Redis cannot be kept to a core each, where they do more under load: ${why}`),
    },
  });
}

function keepWatch({ watches }: House): () => void {
  const stop = new AbortController();
  void (async () => {
    while (!stop.signal.aborted) {
      for (const watch of watches) void watch.look();
      await clock.sleep(watchMs, stop.signal);
    }
  })();
  return () => stop.abort();
}

async function run(config: Placed): Promise<number> {
  let end: (ending: { code: number; message?: string }) => void = () => {};
  const ended = new Promise<{ code: number; message?: string }>((resolve) => {
    end = resolve;
  });
  const started: KeptProcess[] = []; // in the order of their start
  const pair = corePair(config, started);
  const house: House = { config, logs: [], watches: pair ? [pair] : [], fail: (message) => end({ code: 1, message }) };
  const stopSignals = onStopSignals({
    first: (name) => end({ code: 0, message: `${name}: draining; once more ends at once` }),
    second() {
      for (const kept of started) kept.signal(kept.name === "redis" ? "SIGTERM" : "SIGKILL");
      process.exit(130);
    },
  });
  watchParent(process.env, () => end({ code: 0, message: "the process that started this one is gone: draining" }));

  const stopTailing = tailLogs(house.logs);
  const stopWatching = keepWatch(house);
  let failure: unknown;
  const opening = open(house, started).catch((error: unknown) => {
    failure = error;
    end({ code: 1 });
  });
  const ending = await ended;
  stopWatching();
  terminal.wait(undefined);
  if (ending.message) terminal.say(ending.message);
  await Promise.race([opening, clock.sleep(100)]);
  await close(started);
  await stopTailing();
  stopSignals();
  if (failure !== undefined) throw failure;
  return ending.code;
}

/** Starts everything, waits until it can serve, and says how to use it. */
async function open(house: House, started: KeptProcess[]): Promise<void> {
  const { config } = house;
  let lifeline: Lifeline | undefined;
  let url = config.redisUrl;
  if (url === undefined) {
    terminal.wait("Redis: starting");
    const embedded = await startEmbeddedRedis(house);
    started.push(embedded.kept);
    ({ lifeline, url } = embedded);
  } else {
    terminal.wait("Redis: connecting");
    await mustAnswer({ url, tls: config.redisTls });
  }
  const env = childEnv(config, { redisUrl: url, env: process.env });
  for (const [at, metrics] of config.coordinatorMetrics.entries()) {
    const name = at === 0 ? "coordinator" : `coordinator-${at + 1}`;
    const own = { ...env, SWITCHYARD_METRICS: shown(metrics), SWITCHYARD_EXPECTED_HOSTS: String(config.workers) };
    const coordinator = keepProgram(house, { name, module: "@switchyard/coordinator/main", env: own }, lifeline);
    started.push(coordinator);
    await coordinator.start();
  }
  for (let index = 1; index <= config.workers; index++) {
    const own = { ...env, SWITCHYARD_WORKER_INDEX: String(index) };
    const worker = keepProgram(house, { name: `worker-${index}`, module: "@switchyard/worker/main", env: own }, lifeline);
    started.push(worker);
    await worker.start();
  }
  await untilReady(config);
  terminal.wait(undefined);
  const elsewhere = shown(config.http) === "127.0.0.1:8000" ? "" : ` --url http://${shown(config.http)}`;
  terminal.say(`Switchyard is ready at http://${shown(config.http)}`);
  terminal.say(`Console: http://${shown(config.http)}/`);
  if (config.grpc) terminal.say(`gRPC: ${shown(config.grpc)}`);
  const key = config.apiKeys === undefined ? "" : "SWITCHYARD_API_KEY=<secret> ";
  terminal.say(`Try: ${key}npx switchyard infer digits --image examples/digits/five.png${elsewhere}`);
  terminal.say(`Logs: ${path.join(config.data, "logs")}. Ctrl-C drains and ends.`);
}

async function untilReady(config: Placed): Promise<void> {
  const coordinators = config.coordinators === 1 ? "the coordinator" : `${config.coordinators} coordinators`;
  const workers = config.workers === 1 ? "one worker" : `${config.workers} workers`;
  // of several, any may answer at the shared address
  const each = config.coordinators === 1 ? [] : config.coordinatorMetrics;
  for (const address of [...each, config.http]) {
    const url = `http://${shown(address)}/readyz`;
    for (;;) {
      const why = await notReady(url);
      if (why === undefined) break;
      terminal.wait(`Starting ${coordinators} and ${workers}${why === "" ? "" : `: ${why}`}`);
      await clock.sleep(100);
    }
  }
}

/** Undefined when ready, else the reason as the coordinator gives it, empty before it answers. */
async function notReady(url: string): Promise<string | undefined> {
  const time = new AbortController();
  const cancelTimer = clock.after(readyAnswerMs, () => time.abort());
  try {
    const answer = await fetch(url, { signal: time.signal });
    if (answer.ok) return undefined;
    const body = (await answer.json()) as { detail?: unknown; error?: unknown };
    return String(body.detail ?? body.error ?? "");
  } catch {
    return "";
  } finally {
    cancelTimer();
  }
}

/** The coordinator goes first, because the calls it holds need the workers; Redis goes last, because all others need it. */
async function close(started: readonly KeptProcess[]): Promise<void> {
  const named = (test: (name: string) => boolean): KeptProcess[] => started.filter(({ name }) => test(name));
  const coordinators = named((name) => name.startsWith("coordinator")).map((kept) => kept.stop(graceMs));
  await Promise.race([Promise.all(coordinators), clock.sleep(coordinatorHeadStartMs)]);
  const workers = named((name) => name.startsWith("worker-")).map((kept) => kept.stop(graceMs));
  await Promise.all([...coordinators, ...workers]);
  await Promise.all(named((name) => name === "redis").map((kept) => kept.stop(graceMs)));
}

function onStopSignals(act: { first: (name: string) => void; second: () => void }): () => void {
  let firstMs: number | undefined;
  const heard = (name: NodeJS.Signals): void => {
    const nowMs = clock.monotonicMs();
    if (firstMs === undefined) {
      firstMs = nowMs;
      act.first(name);
    } else if (nowMs - firstMs > oneSignalMs) act.second();
  };
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of names) process.on(name, heard);
  return () => {
    for (const name of names) process.off(name, heard);
  };
}

function tailLogs(logs: readonly LogTail[]): () => Promise<void> {
  const stop = new AbortController();
  const following = (async () => {
    do {
      await clock.sleep(250, stop.signal);
      for (const log of logs) log.read();
    } while (!stop.signal.aborted);
  })();
  return () => {
    stop.abort();
    return following;
  };
}

try {
  await main();
} catch (error) {
  terminal.wait(undefined);
  const isFault = error instanceof TypeError || error instanceof ReferenceError;
  terminal.say(isFault ? String(error.stack) : (error as Error).message);
  process.exitCode = error instanceof ConfigError ? 2 : 1;
}
process.exit();
