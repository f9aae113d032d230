/** Switchyard as `switchyard up` runs it: one coordinator and one worker with the same variables and flags, and a Redis of its settings. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { startBenchRedis } from "./bench-redis.ts";
import { startUntil } from "./program.ts";
import type { RunningSystem, System, SystemModel } from "./system.ts";

export type Profiled = "coordinator" | "worker";

const root = new URL("../../../", import.meta.url);
const readyMs = 60_000;

export interface SwitchyardOptions {
  /** Threads within an operator; default: as `up` has it, one per core. */
  threads?: number;
  /** A process that shall write CPU profiles into a folder when it ends. */
  profile?: { process: Profiled; folder: string };
}

export function switchyard(options: SwitchyardOptions = {}): System {
  return { id: "s", title: "Switchyard", start: (model) => start(model, options) };
}

async function start(model: SystemModel, { profile, threads }: SwitchyardOptions): Promise<RunningSystem> {
  const redis = await startBenchRedis();
  const dataFolder = await mkdtemp(path.join(tmpdir(), "switchyard-bench-data-"));
  const env = {
    SWITCHYARD_HTTP: "127.0.0.1:0",
    SWITCHYARD_GRPC: "127.0.0.1:0",
    SWITCHYARD_METRICS: "127.0.0.1:0",
    SWITCHYARD_REDIS_URL: redis.url,
    SWITCHYARD_MODELS: model.repository,
    SWITCHYARD_DATA: dataFolder,
    SWITCHYARD_WORKERS: "1",
    SWITCHYARD_EXPECTED_HOSTS: "1",
    SWITCHYARD_WORKER_INDEX: "1",
    ...(threads !== undefined && { SWITCHYARD_THREADS: String(threads) }),
  };
  const nodeArgs = (process: Profiled): string[] => [
    "--enable-source-maps",
    ...(profile?.process === process ? ["--cpu-prof", "--cpu-prof-interval", "500", "--cpu-prof-dir", profile.folder] : []),
  ];
  const coordinator = await startUntil({
    file: new URL("coordinator/src/main.ts", root),
    nodeArgs: nodeArgs("coordinator"),
    env,
    read: (line) => /"listening".*?"url":"(http:\/\/[^"]+)"/.exec(line)?.[1],
  });
  const worker = await startUntil({
    file: new URL("worker/src/main.ts", root),
    nodeArgs: nodeArgs("worker"),
    env,
    read: (line) => (line.includes('"registered"') ? true : undefined),
  });
  await untilReady(coordinator.said);
  if (profile !== undefined) await redis.timeScripts();
  const hosts = (await (await fetch(`${coordinator.said}/v1/hosts`)).json()) as { items: { metrics: string }[] };
  const metricsUrl = `http://${hosts.items[0]!.metrics}/metrics`;
  return {
    port: Number(new URL(coordinator.said).port),
    roles: { door: coordinator.pid, redis: redis.pid, worker: worker.pid },
    batches: () => batchesSoFar(metricsUrl),
    redisCommands: redis.commands,
    ...(profile !== undefined && { redisScripts: redis.scripts }),
    mustRun() {
      coordinator.mustRun();
      worker.mustRun();
    },
    async stop() {
      await coordinator.stop();
      await worker.stop();
      await redis.stop();
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
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

async function batchesSoFar(metricsUrl: string): Promise<{ jobs: number; runs: number }> {
  const text = await (await fetch(metricsUrl)).text();
  const read = (name: string): number => {
    let sum = 0;
    for (const [, value] of text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+]+)$`, "gm"))) sum += Number(value);
    return sum;
  };
  return { jobs: read("switchyard_batch_jobs_sum"), runs: read("switchyard_batch_jobs_count") };
}
