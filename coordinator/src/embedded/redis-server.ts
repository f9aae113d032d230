/**
 * A real redis-server of our own: where its program comes from, how it is configured, started, awaited and stopped.
 * It listens on loopback only, behind a password that is new at every start of a folder, and it never outlives the process that
 * started it nor the processes that share its lifeline: a shell that waits on a pipe ends it when the last holder is gone.
 */

import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, statfs, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { totalmem } from "node:os";
import path from "node:path";
import type { Writable } from "node:stream";
import { promisify } from "node:util";
import { memoryBytesOf } from "@switchyard/protocol";
import { systemClock } from "../clock.ts";
import { leastRewriteBytes } from "./calm-rewrites.ts";
import { canFetchDebianPackages, fetchDebianPackages, packagesFolder } from "./debian-packages.ts";
import { type ProcessLock, tryLock } from "./process-lock.ts";

const execFileAsync = promisify(execFile);

export interface RedisBinary {
  path: string;
  /** As the program says it, such as "7.0.15". */
  version: string;
  kind: "redis" | "valkey";
  source: "path" | "cache";
  /** LD_LIBRARY_PATH for the program, when it needs one. */
  libraryPath?: string;
}

export interface FindRedisOptions {
  /** Folders to look in, separated as in PATH. */
  pathEnv: string;
  /** Where fetched packages are kept. */
  cacheFolder: string;
  onProgress?: (message: string) => void;
}

const redisPackages = {
  packages: ["redis-server", "redis-tools", "liblzf1", "libjemalloc2", "libatomic1"],
  programs: ["redis-server"],
};
const oldestMajor = 7;
const mostRewriteBytes = 2 * 1024 ** 3;
const isNewEnough = ({ version }: { version: string }): boolean => Number.parseInt(version, 10) >= oldestMajor;

async function versionOf(file: string, libraryPath?: string): Promise<{ version: string; kind: "redis" | "valkey" } | undefined> {
  const env = libraryPath === undefined ? process.env : { ...process.env, LD_LIBRARY_PATH: libraryPath };
  const { stdout } = await execFileAsync(file, ["--version"], { env }).catch(() => ({ stdout: "" }));
  const version = /\bv=(\d+\.\d+\.\d+)/.exec(stdout)?.[1];
  return version === undefined ? undefined : { version, kind: /valkey/i.test(stdout) ? "valkey" : "redis" };
}

/** The first redis-server or valkey-server in these folders that is new enough. */
export async function redisOnPath(pathEnv: string): Promise<RedisBinary | undefined> {
  for (const name of ["redis-server", "valkey-server"]) {
    for (const folder of pathEnv.split(path.delimiter)) {
      const file = path.join(folder, name);
      if (folder === "" || !existsSync(file)) continue;
      const found = await versionOf(file);
      if (found && isNewEnough(found)) return { path: file, source: "path", ...found };
    }
  }
  return undefined;
}

async function fetchRedis(options: { cacheFolder: string; onProgress?: (message: string) => void }): Promise<RedisBinary | undefined> {
  const packages = await fetchDebianPackages({ ...options, ...redisPackages });
  const file = packages.binary("redis-server");
  const found = await versionOf(file, packages.libraryPath);
  return found && { path: file, source: "cache", libraryPath: packages.libraryPath, ...found };
}

/** The server that an earlier start fetched; never touches the network. */
export async function cachedRedis(cacheFolder: string): Promise<RedisBinary | undefined> {
  if (!existsSync(packagesFolder({ ...redisPackages, cacheFolder }))) return undefined;
  const cached = await fetchRedis({ cacheFolder });
  return cached && isNewEnough(cached) ? cached : undefined;
}

/** The server on PATH, else the distribution's packages from the cache or its mirror. Throws an Error that says what to install. */
export async function findRedis(options: FindRedisOptions): Promise<RedisBinary> {
  if (process.platform === "win32") {
    throw new Error(
      `On Windows Switchyard cannot start a Redis of its own: set SWITCHYARD_REDIS_URL (or --redis-url) to a running one, version ${oldestMajor} or newer.`,
    );
  }
  const onPath = await redisOnPath(options.pathEnv);
  if (onPath) return onPath;
  const cached = await cachedRedis(options.cacheFolder).catch(() => undefined); // damaged: fetched anew, or told below
  if (cached) return cached;
  const advice =
    `Install redis-server or valkey-server, version ${oldestMajor} or newer, so that it is on PATH ` +
    "(macOS: brew install redis; Fedora: dnf install valkey; Debian, Ubuntu: apt install redis-server), or set SWITCHYARD_REDIS_URL to a running one.";
  if (!canFetchDebianPackages()) {
    throw new Error(
      `No redis-server of version ${oldestMajor} or newer was found, and its packages can be fetched on Debian and Ubuntu only. ${advice}`,
    );
  }
  let why: string;
  try {
    const fetched = await fetchRedis(options);
    if (fetched && isNewEnough(fetched)) return fetched;
    why = fetched ? `the distribution offers version ${fetched.version}` : "the fetched program does not run";
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  throw new Error(`No redis-server of version ${oldestMajor} or newer was found, and fetching it failed: ${why}\n${advice}`);
}

export interface StartRedisOptions {
  /** The server's own folder: configuration, lock, append-only file. Created if missing. */
  dataFolder: string;
  binary: RedisBinary;
  /** Default: a free one. Give it to come back under the same address. */
  port?: number;
  /** Default: a new one. Give it to come back under the same address. */
  password?: string;
  /** Default: redis.log in the data folder. */
  logFile?: string;
  /** Default: a quarter of the machine's memory, at most 4 GiB. */
  maxMemoryBytes?: number;
  /** The cores of children that write its files, wherever its main thread may run when they begin. Default: as it is then. */
  childCores?: readonly number[];
  /** What keeps it alive; default: one of its own, which this process holds. */
  lifeline?: Lifeline;
}

/** A pipe with a shell at the far end. When all holders of the near end are gone, the shell ends the server. */
export interface Lifeline {
  /** The near end. Hand it to children through their stdio: each holder keeps the server alive. */
  pipe: Writable;
  /** Names the process to end. */
  guard(pid: number): void;
  /** That process has ended by itself. */
  release(): void;
  /** Ends the shell, which then does nothing. */
  close(): void;
}

export interface RedisServer {
  /** redis://:password@127.0.0.1:port */
  url: string;
  port: number;
  password: string;
  pid: number;
  /** Resolves when the server has ended, whoever ended it. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Asks it to save and end, and waits for that. */
  stop(): Promise<void>;
}

/** Another process works in the folder. */
export class DataFolderInUse extends Error {
  readonly pid: number;
  constructor(folder: string, pid: number) {
    super(`The data folder ${folder} is in use by process ${pid}. Stop that process, or choose another folder with --data.`);
    this.pid = pid;
  }
}

export function defaultMaxMemoryBytes(): number {
  const bytes = memoryBytesOf({ limitBytes: process.constrainedMemory(), machineBytes: totalmem() });
  return Math.min(Math.floor(bytes / 4), 4 * 1024 ** 3);
}

/** Starts a server and waits until it answers. Throws DataFolderInUse, or an Error with the end of the server's log. */
export async function startRedis(options: StartRedisOptions): Promise<RedisServer> {
  const folder = path.resolve(options.dataFolder);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const lock = tryLock(path.join(folder, "redis.pid"));
  if ("heldBy" in lock) throw new DataFolderInUse(folder, lock.heldBy);
  try {
    const password = options.password ?? randomBytes(18).toString("base64url");
    for (let attempt = 1; ; attempt++) {
      const port = options.port ?? (await freePort());
      const started = await launch(options, { folder, port, password, lock });
      if (started !== "address in use") return started;
      if (attempt === 20) throw new Error(`redis-server found its port taken ${attempt} times, last ${port} on 127.0.0.1`);
      if (options.port !== undefined) await systemClock.sleep(100);
    }
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** A port that was free a moment ago; whoever uses it must expect to lose the race. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const address = probe.address();
  probe.close();
  await once(probe, "close");
  if (address === null || typeof address === "string") throw new Error("the system gave no port");
  return address.port;
}

/**
 * How large the append-only file may get before the server rewrites it, whatever else it has to do. Tensors pass through it, so that the usual 64 MB mean a rewrite
 * every second under load. Two GiB are read in six seconds at a start; an eighth of what the disk has free where that is less, but not less than half a GiB.
 */
async function rewriteBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return Math.max(leastRewriteBytes, Math.min(mostRewriteBytes, Math.floor((bavail * bsize) / 8)));
}

function configuration(
  options: StartRedisOptions,
  own: { folder: string; port: number; password: string; logFile: string; rewriteBytes: number },
): string {
  return [
    "bind 127.0.0.1",
    `port ${own.port}`,
    "protected-mode yes",
    `requirepass ${own.password}`,
    "daemonize no",
    `dir "${own.folder}"`,
    `logfile "${own.logFile}"`,
    `maxmemory ${options.maxMemoryBytes ?? defaultMaxMemoryBytes()}`,
    "maxmemory-policy noeviction",
    "appendonly yes",
    "appendfsync everysec",
    "aof-use-rdb-preamble yes",
    "no-appendfsync-on-rewrite no",
    `auto-aof-rewrite-min-size ${own.rewriteBytes}`,
    'save ""',
    "hash-max-listpack-value 512",
    "timeout 0",
    "tcp-keepalive 60",
    "slowlog-log-slower-than 10000",
    "latency-monitor-threshold 50",
    ...(options.childCores === undefined
      ? []
      : ["aof_rewrite", "bgsave"].map((name) => `${name}_cpulist ${options.childCores!.join(",")}`)),
    "",
  ].join("\n");
}

interface Own {
  folder: string;
  port: number;
  password: string;
  lock: ProcessLock;
}

async function launch(options: StartRedisOptions, own: Own): Promise<RedisServer | "address in use"> {
  const logFile = path.resolve(options.logFile ?? path.join(own.folder, "redis.log"));
  await mkdir(path.dirname(logFile), { recursive: true });
  const logStart = (await readFile(logFile).catch(() => Buffer.alloc(0))).length;
  const newLog = async (): Promise<string> => (await readFile(logFile)).subarray(logStart).toString().trimEnd();
  const configFile = path.join(own.folder, "redis.conf");
  await rm(configFile, { force: true });
  await writeFile(configFile, configuration(options, { ...own, logFile, rewriteBytes: await rewriteBytes(own.folder) }), { mode: 0o600 });

  const env = options.binary.libraryPath === undefined ? process.env : { ...process.env, LD_LIBRARY_PATH: options.binary.libraryPath };
  // A group of its own: Ctrl-C in the terminal must not reach the server before those that still use it.
  const child = spawn(options.binary.path, [configFile], { env, stdio: "ignore", detached: true });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once("error", () => resolve({ code: null, signal: null }));
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  if (child.pid === undefined) {
    await exited;
    throw new Error(`${options.binary.path} could not be started`);
  }
  const pid = child.pid;
  own.lock.handTo(pid);
  const lifeline = options.lifeline ?? createLifeline();
  lifeline.guard(pid);
  let running = true;
  void exited.then(() => {
    running = false;
    if (options.lifeline) lifeline.release();
    else lifeline.close();
    own.lock.release();
  });

  while (running && !(await answers({ ...own, pid }))) await systemClock.sleep(5);
  if (!running) {
    const log = await newLog().catch(() => "");
    if (/Address already in use/i.test(log)) {
      const again = tryLock(path.join(own.folder, "redis.pid"));
      if ("heldBy" in again) throw new DataFolderInUse(own.folder, again.heldBy);
      own.lock = again;
      return "address in use";
    }
    throw new Error(`redis-server ended while starting. The end of ${logFile}:\n${log.split("\n").slice(-8).join("\n")}`);
  }
  return {
    url: `redis://:${own.password}@127.0.0.1:${own.port}`,
    port: own.port,
    password: own.password,
    pid,
    exited,
    async stop() {
      if (running) process.kill(pid, "SIGTERM");
      if (running) process.kill(pid, "SIGCONT"); // a frozen server hears nothing until it is woken
      await exited;
    },
  };
}

/** A stopped (SIGSTOP) server is woken to hear that it shall end, and one that will not end is killed after half a minute. */
export function createLifeline(): Lifeline {
  const script = `server=0; while read -r next; do server=$next; done <&3
    [ "$server" -gt 1 ] || exit 0
    runs() { kill -0 "$server" 2>/dev/null && { [ ! -d /proc/self ] || [ -e "/proc/$server/exe" ]; }; } # a zombie does not run
    kill -TERM "$server" && kill -CONT "$server"; n=0
    while runs && [ $n -lt 300 ]; do n=$((n+1)); sleep 0.1; done
    runs && kill -KILL "$server"`;
  const shell = spawn("/bin/sh", ["-c", script, "redis-lifeline"], { stdio: ["ignore", "ignore", "ignore", "pipe"], detached: true });
  const pipe = shell.stdio[3] as Writable & { unref(): void };
  pipe.on("error", () => {});
  shell.on("error", () => {});
  shell.unref();
  pipe.unref();
  return {
    pipe,
    guard: (pid) => pipe.write(`${pid}\n`),
    release: () => pipe.write("0\n"),
    close() {
      shell.kill("SIGKILL");
      pipe.destroy();
    },
  };
}

/** Whether the server on this port is the one we started and has finished loading its data. Two inline commands need no client library. */
function answers(server: { port: number; password: string; pid: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: server.port });
    let text = "";
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("connect", () => socket.write(`AUTH ${server.password}\r\nINFO server\r\nPING\r\n`));
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      const owner = /^process_id:(\d+)/m.exec(text)?.[1];
      if (owner !== undefined && owner !== String(server.pid)) end(false);
      if (/^-LOADING|^-WRONGPASS|^-ERR/m.test(text)) end(false);
      if (owner === String(server.pid) && /^\+PONG/m.test(text)) end(true);
    });
  });
}
