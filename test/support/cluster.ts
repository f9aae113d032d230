/**
 * The real thing for a test: `switchyard up` with a Redis, a coordinator and workers of its own, on free ports and a temporary data
 * folder, and further coordinators on the same Redis. Ends with the test; what a failed test needs to know is in `log()`.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const cliMain = path.join(root, "client-sdk/src/cli/main.ts");
const upMain = path.join(root, "coordinator/src/embedded/up.ts");
const coordinatorMain = path.join(root, "coordinator/src/main.ts");
const readyMs = 90_000;

export interface ClusterOptions {
  /** Default 1. */
  workers?: number;
  /** The first runs under `up`, which starts it again when it dies; the others stay dead. Default 1. */
  coordinators?: number;
  /** Model repository; default: the example models. */
  models?: string;
  env?: Record<string, string>;
}

export interface ClusterProcess {
  pid: number;
  exited: Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  log(): string;
}

export interface Coordinator extends ClusterProcess {
  url: string;
}

export interface Cluster extends AsyncDisposable {
  /** Of the coordinator under `up`. */
  url: string;
  /** host:port of its gRPC. */
  grpc: string;
  redisUrl: string;
  dataFolder: string;
  up: ClusterProcess;
  /** Those that `up` did not start. */
  coordinators: Coordinator[];
  /** Ids of the processes that `up` keeps running, as they are now. */
  pidsOf(program: "coordinator" | "worker"): number[];
  log(): string;
  /** Drains everything; answers the exit code of `up`. */
  stop(): Promise<number | null>;
}

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-cluster-"));
  const models = options.models ?? path.join(root, "models");
  const env = { ...process.env, ...options.env };
  const anyPort = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
  const args = [...anyPort, "--data", dataFolder, "--models", models, "--workers", String(options.workers ?? 1)];
  const { process: up, found } = await startUntil(upMain, { args, env, pattern: /ready at (http:\/\/\S+)(?:.|\n)*?gRPC: \S+\n/ });
  const redisUrl = (await readFile(path.join(dataFolder, "redis", "url"), "utf8")).trim();
  const coordinators: Coordinator[] = [];
  for (let index = 1; index < (options.coordinators ?? 1); index++) {
    const own = [...anyPort, "--models", models, "--data", dataFolder, "--redis-url", redisUrl];
    const started = await startUntil(coordinatorMain, { args: own, env, pattern: /"listening".*?"url":"(http:\/\/[^"]+)"/ });
    await untilReady(started.found);
    coordinators.push({ ...started.process, url: started.found });
  }
  const stop = async (): Promise<number | null> => {
    for (const coordinator of coordinators) coordinator.kill("SIGTERM");
    await Promise.all(coordinators.map(({ exited }) => exited));
    up.kill("SIGTERM");
    const code = await up.exited;
    await rm(dataFolder, { recursive: true, force: true });
    return code;
  };
  return {
    url: found,
    grpc: /gRPC: (\S+)/.exec(up.log())?.[1] ?? "",
    redisUrl,
    dataFolder,
    up,
    coordinators,
    pidsOf: (program) => childrenOf(up.pid).filter((pid) => commandOf(pid).includes(`/${program}/src/main.ts`)),
    log: () => [up.log(), ...coordinators.map((coordinator) => coordinator.log()), ...logsIn(dataFolder)].join("\n"),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

interface Start {
  args: readonly string[];
  env: Record<string, string | undefined>;
  /** What its output says when it is there, with one group to keep. */
  pattern: RegExp;
}

async function startUntil(file: string, start: Start): Promise<{ process: ClusterProcess; found: string }> {
  // Descriptor 3 ends it when the test dies without saying so.
  const env = { ...start.env, SWITCHYARD_PARENT_PIPE: "3" };
  const child = spawn(process.execPath, [file, ...start.args], { env, cwd: root, stdio: ["ignore", "pipe", "pipe", "pipe"] });
  child.stdio[3]?.on("error", () => {});
  const output: string[] = [];
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const started = asProcess(child, exited, output);
  const found = await new Promise<string>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${file} did not start within ${readyMs} ms:\n${output.join("")}`)), readyMs);
    const read = (chunk: Buffer): void => {
      output.push(String(chunk));
      const match = start.pattern.exec(output.join(""));
      if (match === null) return;
      clearTimeout(late);
      resolve(match[1]!);
    };
    child.stdout!.on("data", read);
    child.stderr!.on("data", read);
    void exited.then((code) => {
      clearTimeout(late);
      reject(new Error(`${file} ended with ${code} before it was ready:\n${output.join("")}`));
    });
  }).catch((error: unknown) => {
    child.kill("SIGTERM");
    throw error;
  });
  return { process: started, found };
}

function asProcess(child: ChildProcess, exited: Promise<number | null>, output: readonly string[]): ClusterProcess {
  return { pid: child.pid!, exited, kill: (signal) => void child.kill(signal), log: () => output.join("") };
}

async function untilReady(url: string): Promise<void> {
  const lateMs = performance.now() + readyMs;
  for (;;) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > lateMs) throw new Error(`${url} is not ready: ${await answer?.text()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return ""; // it has ended meanwhile
  }
}

function logsIn(dataFolder: string): string[] {
  try {
    const folder = path.join(dataFolder, "logs");
    return readdirSync(folder).map((name) => `--- ${name}\n${readFileSync(path.join(folder, name), "utf8")}`);
  } catch {
    return []; // nothing was written
  }
}
