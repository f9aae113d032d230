/** One cell: a fresh system, warmed up at full load, measured, and told from noise. A noisy cell is measured again, the quietest counts. */

import type { LoadFigures, StreamOrder } from "./load/figures.ts";
import type { LoadProcess } from "./load/load.ts";
import type { StreamFigures } from "./load/stream-tally.ts";
import { readMachine, useBetween } from "./machine.ts";
import type { RedisCommands, RunningSystem, System, SystemModel } from "./systems/system.ts";

const maxStealPercent = 4;
const maxStrangersPercent = 10;
const repeats = 2;

export interface CellPlan {
  model: SystemModel;
  /** While it is measured; the warm-up always has the row's full load. */
  clients: number;
  warmClients: number;
  warmSeconds: number;
  seconds: number;
  verifyEvery: number;
}

export interface Noise {
  stealPercent: number;
  strangersPercent: number;
  isNoisy: boolean;
}

export interface Cell {
  system: string;
  figures: LoadFigures;
  /** Microseconds of CPU per job by role; `load` is the load process. */
  cpuUsPerJob: Record<string, number>;
  /** Per cent of one core that the load process used. */
  loadPercent: number;
  noise: Noise;
  /** Jobs per run, where the system knows. */
  meanBatch?: number;
  /** Calls and microseconds inside Redis per job, by command. */
  redisPerJob?: Record<string, { calls: number; us: number }>;
  /** By script: calls and microseconds of a sample; only while profiled. */
  redisScripts?: Record<string, { calls: number; us: number }>;
  attempts: number;
}

export const noiseOf = (use: { stealPercent: number; strangersPercent: number }): Noise => ({
  stealPercent: round(use.stealPercent, 1),
  strangersPercent: round(use.strangersPercent, 1),
  isNoisy: use.stealPercent > maxStealPercent || use.strangersPercent > maxStrangersPercent,
});

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** After so many cells that stayed noisy whatever was tried, the next ones are measured once: such a machine does not become quiet for a repeat. */
const loudCells = 2;
let loudInARow = 0;

/** Measures until the machine was quiet, three times at most. Throws what made an answer fail. */
export async function quietest<Measured extends { noise: Noise; attempts: number }>(measure: () => Promise<Measured>): Promise<Measured> {
  let best: Measured | undefined;
  let attempts = 0;
  const loudness = ({ noise }: Measured): number => noise.strangersPercent / maxStrangersPercent + noise.stealPercent / maxStealPercent;
  do {
    await untilQuiet();
    const next = await measure();
    attempts++;
    if (best === undefined || loudness(next) < loudness(best)) best = next;
  } while (best.noise.isNoisy && attempts <= repeats && loudInARow < loudCells);
  loudInARow = best.noise.isNoisy ? loudInARow + 1 : 0;
  return { ...best, attempts };
}

/** Waits a few seconds for strangers to pause; a machine that stays loud is measured all the same, and marked. */
export async function untilQuiet(): Promise<void> {
  const own = new Set([process.pid]);
  for (let look = 0; look < 16; look++) {
    const before = readMachine(own);
    await sleep(0.5);
    if (!noiseOf(useBetween(before, readMachine(own))).isNoisy) return;
  }
}

export function measureCell(system: System, plan: CellPlan, load: LoadProcess): Promise<Cell> {
  return quietest(() => measureOnce(system, plan, load));
}

/** However loud the machine is. */
export async function measureOnce(system: System, plan: CellPlan, load: LoadProcess): Promise<Cell> {
  const running = await system.start(plan.model);
  try {
    return { system: system.id, attempts: 1, ...(await measureClients(running, plan, load)) };
  } finally {
    await running.stop();
  }
}

/** Closed-loop clients against a system that runs: warmed up at full load, then measured. */
export async function measureClients(
  running: RunningSystem,
  plan: CellPlan,
  load: LoadProcess,
): Promise<Omit<Cell, "system" | "attempts">> {
  const order = { host: "127.0.0.1", port: running.port, wire: running.wire ?? "http", verifyEvery: plan.verifyEvery };
  await load.start({ ...order, clients: plan.warmClients });
  await sleep(plan.warmSeconds);
  if (plan.clients !== plan.warmClients) {
    await load.mark();
    await sleep(0.5);
    await load.finish();
    await load.start({ ...order, clients: plan.clients });
    await sleep(0.5);
  }
  return measureRunning(running, plan, load);
}

/** What streams came to, and what the machine did meanwhile. */
export interface StreamCell {
  streams: Record<string, StreamFigures>;
  /** Per cent of one core, by role; `load` is the load process. */
  cpuPercent: Record<string, number>;
  noise: Noise;
}

/** Streams of jobs against a system that runs. Jobs of the first `settleSeconds` do not count. */
export async function measureStreams(
  running: RunningSystem,
  plan: { streams: StreamOrder[]; settleSeconds: number; seconds: number },
  load: LoadProcess,
): Promise<StreamCell> {
  const roles = { ...running.roles, load: load.pid };
  const own = new Set([...Object.values(roles), process.pid]);
  await load.startStreams({ host: "127.0.0.1", port: running.port, streams: plan.streams, verifyEvery: 16 });
  await sleep(plan.settleSeconds);
  await load.mark();
  const before = readMachine(own);
  await sleep(plan.seconds);
  const use = useBetween(before, readMachine(own));
  running.mustRun();
  const streams = await load.finishStreams();
  const percent = (pid: number): number => round((use.cpuUs.get(pid) ?? 0) / 1e4 / plan.seconds, 1);
  return { streams, cpuPercent: Object.fromEntries(Object.entries(roles).map(([role, pid]) => [role, percent(pid)])), noise: noiseOf(use) };
}

async function measureRunning(running: RunningSystem, plan: CellPlan, load: LoadProcess): Promise<Omit<Cell, "system" | "attempts">> {
  const own = new Set([...Object.values(running.roles), load.pid, process.pid]);
  const batchesBefore = await running.batches?.();
  const commandsBefore = await running.redisCommands?.();
  await load.mark();
  const before = readMachine(own);
  await sleep(plan.seconds);
  const after = readMachine(own);
  running.mustRun();
  const scripts = await running.redisScripts?.();
  const figures = await load.finish();
  const use = useBetween(before, after);
  const perJob = (pid: number): number => round((use.cpuUs.get(pid) ?? 0) / figures.jobs, 1);
  const cell: Omit<Cell, "system" | "attempts"> = {
    figures,
    cpuUsPerJob: Object.fromEntries(
      [...Object.entries(running.roles), ["load", load.pid] as const].map(([role, pid]) => [role, perJob(pid)]),
    ),
    loadPercent: round((use.cpuUs.get(load.pid) ?? 0) / 1e4 / plan.seconds, 1),
    noise: noiseOf(use),
  };
  if (scripts !== undefined) cell.redisScripts = Object.fromEntries(scripts);
  // Batches and commands are read outside the measured time, so a few jobs more are in both of their figures.
  const batchesAfter = await running.batches?.();
  if (batchesBefore && batchesAfter)
    cell.meanBatch = round((batchesAfter.jobs - batchesBefore.jobs) / (batchesAfter.runs - batchesBefore.runs), 1);
  const commandsAfter = await running.redisCommands?.();
  if (commandsBefore && commandsAfter) cell.redisPerJob = redisPerJob(commandsBefore, commandsAfter, figures.jobs);
  return cell;
}

/** Commands that cost most first; those inside a script are counted by Redis on their own, and again in the script's time. */
function redisPerJob(before: RedisCommands, after: RedisCommands, jobs: number): NonNullable<Cell["redisPerJob"]> {
  const byCommand: Record<string, { calls: number; us: number }> = {};
  const spent = [...after].map(([name, now]) => {
    const { calls = 0, us = 0 } = before.get(name) ?? {};
    return { name, calls: (now.calls - calls) / jobs, us: (now.us - us) / jobs };
  });
  for (const { name, calls, us } of spent.toSorted((left, right) => right.us - left.us)) {
    if (us >= 0.05) byCommand[name] = { calls: round(calls, 2), us: round(us, 1) };
  }
  return byCommand;
}

export function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
