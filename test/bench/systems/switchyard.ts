/** Switchyard as `switchyard up` runs it: one coordinator and one worker with the same variables and flags, and a Redis of its settings. */

import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";
import { freePort } from "../../../coordinator/src/embedded/redis-server.ts";
import type { Wire } from "../load/connection.ts";
import { benchCores, keepBenchPair } from "./bench-cores.ts";
import { startBenchRedis } from "./bench-redis.ts";
import { type Program, startUntil } from "./program.ts";
import { sumOf } from "./prometheus-text.ts";
import type { MetricsPages, RunningSystem, System, SystemModel } from "./system.ts";

export type Profiled = "coordinator" | "worker";

const root = new URL("../../../", import.meta.url);
const readyMs = 60_000;

export interface Tenant {
  name: string;
  weight: number;
  /** The secret of its only key. */
  apiKey: string;
}

/** A tenant with a new key. */
export const newTenant = (name: string, weight: number): Tenant => ({ name, weight, apiKey: randomBytes(24).toString("base64url") });

export interface SwitchyardOptions {
  /** Default: no API keys, so one tenant. */
  tenants?: readonly Tenant[];
  /** Threads within an operator; default: as `up` has it, one per core. */
  threads?: number;
  /** Coordinators that share the address, as `up --coordinators` has them; the first one's metrics are told. Default: 1. */
  coordinators?: number;
  /** Hosts beside the first, on the same devices; default: none. Batches are told of the first. */
  furtherWorkers?: number;
  /** Further variables of both processes. */
  env?: Record<string, string>;
  /** The worker does not see the coordinator's folder of large values, as on another machine. */
  isApart?: boolean;
  /** Which of its doors is under load; default: http. */
  wire?: Wire;
  /** SIGUSR2 switches the metrics of the coordinator and of the worker off, and on again. */
  switchesMetrics?: boolean;
  /** A process that shall write CPU profiles into a folder when it ends. */
  profile?: { process: Profiled; folder: string };
}

const named: Readonly<Record<Wire, [id: string, title: string]>> = {
  http: ["s", "Switchyard"],
  grpc: ["g", "Switchyard over gRPC"],
  json: ["j", "Switchyard, JSON on /v1"],
  mcp: ["m", "Switchyard over MCP"],
};

export function switchyard(options: SwitchyardOptions = {}): System {
  const [id, title] = named[options.wire ?? "http"];
  return { id, title, start: (model) => startSwitchyard(model, options) };
}

export interface RunningSwitchyard extends RunningSystem {
  url: string;
  /** The pages of metrics as they are now. */
  metrics(): Promise<MetricsPages>;
  /** From the first process' start until it was ready. */
  readyMs: number;
}

export async function startSwitchyard(
  model: Pick<SystemModel, "repository">,
  {
    coordinators = 1,
    env: more,
    furtherWorkers = 0,
    isApart,
    profile,
    tenants,
    threads,
    wire = "http",
    switchesMetrics = false,
  }: SwitchyardOptions = {},
): Promise<RunningSwitchyard> {
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const end of stops.toReversed()) await end();
  };
  try {
    const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-bench-data-"));
    stops.push(() => rm(dataFolder, { recursive: true, force: true }));
    const cores = coordinators === 1 ? benchCores() : undefined;
    const redis = await startBenchRedis(cores && { childCores: cores });
    stops.push(redis.stop);
    const keys = tenants && (await writeKeys(path.join(dataFolder, "keys.yaml"), tenants));
    const env = {
      SWITCHYARD_HTTP: `127.0.0.1:${coordinators > 1 ? await freePort() : 0}`,
      SWITCHYARD_GRPC: `127.0.0.1:${coordinators > 1 ? await freePort() : 0}`,
      SWITCHYARD_COORDINATORS: String(coordinators),
      SWITCHYARD_METRICS: "127.0.0.1:0",
      SWITCHYARD_REDIS_URL: redis.url,
      SWITCHYARD_MODELS: model.repository,
      SWITCHYARD_DATA: dataFolder,
      SWITCHYARD_WORKERS: String(1 + furtherWorkers),
      SWITCHYARD_EXPECTED_HOSTS: String(1 + furtherWorkers),
      ...(keys && { SWITCHYARD_API_KEYS: keys.file }),
      ...(threads !== undefined && { SWITCHYARD_THREADS: String(threads) }),
      ...more,
    };
    const nodeArgs = (process: Profiled): string[] => [
      ...serverNodeFlags,
      ...(switchesMetrics ? ["--import", new URL("./metrics-switch.ts", import.meta.url).href] : []),
      ...(profile?.process === process ? ["--cpu-prof", "--cpu-prof-interval", "500", "--cpu-prof-dir", profile.folder] : []),
    ];
    const startedMs = performance.now();
    const startCoordinator = async (): Promise<Door> => {
      const file = new URL("coordinator/src/main.ts", root);
      const started = await startUntil({ file, nodeArgs: nodeArgs("coordinator"), env, read: whereItListens });
      stops.push(started.stop);
      return started;
    };
    const startWorker = async (index: number): Promise<Program<true>> => {
      const started = await startUntil({
        file: new URL("worker/src/main.ts", root),
        nodeArgs: nodeArgs("worker"),
        env: {
          ...env,
          SWITCHYARD_WORKER_INDEX: String(index),
          ...(isApart && { SWITCHYARD_BLOBS: path.join(dataFolder, "elsewhere") }),
        },
        read: (line) => (line.includes('"registered"') ? (true as const) : undefined),
      });
      stops.push(started.stop);
      return started;
    };
    // those that share an address wait a while for the worker before they listen
    const alone = coordinators === 1 ? [await startCoordinator()] : undefined;
    const doors = alone ?? Promise.all(Array.from({ length: coordinators }, startCoordinator));
    const [worker, [coordinator, ...others]] = await Promise.all([startWorker(1), doors as Promise<[Door, ...Door[]]>]);
    const further: Program<true>[] = [];
    for (let at = 0; at < furtherWorkers; at++) further.push(await startWorker(2 + at));
    if (cores) {
      const leave = keepBenchPair({ coordinator: coordinator.pid, redis: redis.pid });
      stops.push(async () => leave());
    }
    const { url, metrics: doorMetrics, grpc } = coordinator.said;
    await untilReady(url);
    const readyMs = performance.now() - startedMs;
    if (profile !== undefined) await redis.timeScripts();
    const headers = keys ? { authorization: `Bearer ${keys.operator}` } : {};
    const hosts = (await (await fetch(`${url}/v1/hosts`, { headers })).json()) as { items: { metrics: string }[] };
    const workerMetrics = `http://${hosts.items[0]!.metrics}`;
    const page = async (address: string): Promise<string> => (await fetch(`${address}/metrics`)).text();
    return {
      url,
      port: Number(new URL(wire === "grpc" ? `http://${grpc}` : url).port),
      wire,
      readyMs,
      roles: {
        door: coordinator.pid,
        ...Object.fromEntries(others.map(({ pid }, at) => [`door ${2 + at}`, pid])),
        redis: redis.pid,
        worker: worker.pid,
        ...Object.fromEntries(further.map(({ pid }, at) => [`worker ${2 + at}`, pid])),
      },
      metrics: async () => ({ door: await page(doorMetrics), worker: await page(workerMetrics) }),
      ...(!switchesMetrics && { batches: async () => batchesIn(await page(workerMetrics)) }),
      redisCommands: redis.commands,
      ...(profile !== undefined && { redisScripts: redis.scripts }),
      mustRun() {
        for (const one of [coordinator, ...others]) one.mustRun();
        worker.mustRun();
        for (const one of further) one.mustRun();
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Listening {
  url: string;
  metrics: string;
  grpc: string;
}

type Door = Program<Listening>;

function whereItListens(line: string): Listening | undefined {
  const found = /"listening".*?"url":"(http:\/\/[^"]+)".*?"metrics":"(http:\/\/[^"]+)".*?"grpc":"([^"]+)"/.exec(line);
  return found === null ? undefined : { url: found[1]!, metrics: found[2]!.replace(/\/metrics$/, ""), grpc: found[3]! };
}

async function untilReady(url: string): Promise<void> {
  const lateMs = performance.now() + readyMs;
  for (;;) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > lateMs) throw new Error(`Switchyard is not ready: ${await answer?.text()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function batchesIn(text: string): { jobs: number; runs: number } {
  return { jobs: sumOf(text, "switchyard_batch_jobs_sum") ?? 0, runs: sumOf(text, "switchyard_batch_jobs_count") ?? 0 };
}

/** The file of API keys, with one more key for its writer's own questions. */
export async function writeKeys(file: string, tenants: readonly Tenant[]): Promise<{ file: string; operator: string }> {
  const operator = newTenant("operator", 1);
  const entry = ({ name, weight, apiKey }: Tenant, scopes: string): string =>
    [
      `- id: ${name}`,
      `  sha256: ${createHash("sha256").update(apiKey).digest("hex")}`,
      `  tenant: ${name}`,
      `  weight: ${weight}`,
      `  scopes: [${scopes}]`,
    ].join("\n");
  const entries = [...tenants.map((tenant) => entry(tenant, "submit, read")), entry(operator, "read, operate")];
  await writeFile(file, `${entries.join("\n")}\n`, { mode: 0o600 });
  return { file, operator: operator.apiKey };
}
