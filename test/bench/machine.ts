/**
 * What the machine did during a cell, read from /proc: CPU time per process, time stolen by the host, and the work of strangers.
 * A figure measured while somebody else used the cores says nothing; this file is how a cell knows.
 */

import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";

/** Of CPU time in /proc; fixed at 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

export interface MachineReading {
  atMs: number;
  stealTicks: number;
  totalTicks: number;
  /** Microseconds by process id. */
  ownCpuUs: Map<number, number>;
  strangersTicks: number;
}

export interface MachineUse {
  /** Share of all CPU time that the host gave to others, in per cent. */
  stealPercent: number;
  /** CPU time of processes that are not the bench's, in per cent of one core. */
  strangersPercent: number;
  cpuUs: Map<number, number>;
}

/** `own` are the processes of the bench: the system, the load, and this one. */
export function readMachine(own: ReadonlySet<number>): MachineReading {
  const fields = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]!.trim().split(/\s+/).slice(1).map(Number);
  const ownCpuUs = new Map<number, number>();
  let strangersTicks = 0;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const times = processTicks(Number(name));
    if (times === undefined) continue;
    if (own.has(Number(name))) ownCpuUs.set(Number(name), (times.own * 1e6) / ticksPerSecond);
    // A process that ends within the cell is counted in its parent's figure of waited-for children.
    else strangersTicks += times.own + times.children;
  }
  const totalTicks = fields.slice(0, 8).reduce((left, right) => left + right, 0);
  return { atMs: performance.now(), stealTicks: fields[7] ?? 0, totalTicks, ownCpuUs, strangersTicks };
}

/** Undefined for processes that have ended and for the kernel's own, which work for all of us. */
function processTicks(pid: number): { own: number; children: number } | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const parent = Number(fields[1]);
  if (pid === 2 || parent === 2) return undefined;
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number) as [number, number, number, number];
  return { own: user + system, children: childUser + childSystem };
}

export function useBetween(before: MachineReading, after: MachineReading): MachineUse {
  const seconds = (after.atMs - before.atMs) / 1000;
  const cpuUs = new Map<number, number>();
  for (const [pid, us] of after.ownCpuUs) cpuUs.set(pid, us - (before.ownCpuUs.get(pid) ?? 0));
  return {
    stealPercent: (100 * (after.stealTicks - before.stealTicks)) / Math.max(1, after.totalTicks - before.totalTicks),
    strangersPercent: Math.max(0, (100 * (after.strangersTicks - before.strangersTicks)) / (seconds * ticksPerSecond)),
    cpuUs,
  };
}

export function describeMachine(): Record<string, unknown> {
  return {
    cores: availableParallelism(),
    processor: cpus()[0]?.model ?? "unknown",
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    kernel: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim(),
    loadAverage: loadavg().map((value) => Number(value.toFixed(2))),
    node: process.version,
  };
}
