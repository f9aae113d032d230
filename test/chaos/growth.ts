/** What must not grow while a cluster works and things break: memory and handles of processes, keys and bytes of the store. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { OneProcess } from "../support/processes.ts";

export interface Sample {
  atMs: number;
  values: Readonly<Record<string, number>>;
}

const mebibyte = 1024 ** 2;

export class Growth {
  readonly samples: Sample[] = [];
  readonly #redis: Redis;
  readonly #processes: readonly OneProcess[];
  #loop: Promise<void> | undefined;
  #over = false;

  /** `processes` are those that nobody ends. */
  constructor(redis: Redis, processes: readonly OneProcess[]) {
    this.#redis = redis;
    this.#processes = processes;
  }

  start(everyMs: number): void {
    this.#loop = this.#look(everyMs);
  }

  async stop(): Promise<void> {
    this.#over = true;
    await this.#loop;
  }

  async #look(everyMs: number): Promise<void> {
    while (!this.#over) {
      const values: Record<string, number> = await storeSize(this.#redis);
      for (const one of this.#processes) {
        const { name, pid } = one;
        const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))![1];
        values[`${name} MB`] = (Number(kib) * 1024) / mebibyte;
        values[`${name} handles`] = handlesOf(one);
      }
      this.samples.push({ atMs: Date.now(), values });
      await sleep(everyMs);
    }
  }
}

/** Without clients' connections: whoever outlives other coordinators inherits theirs, until all clients are with it. */
function handlesOf(one: OneProcess): number {
  const port = "url" in one ? Number(new URL(String(one.url)).port) : undefined;
  const ofClients = new Set<string>();
  for (const line of readFileSync("/proc/net/tcp", "latin1").split("\n").slice(1)) {
    const [, local, , , , , , , , inode] = line.trim().split(/\s+/);
    if (port !== undefined && Number.parseInt(local?.split(":")[1] ?? "", 16) === port) ofClients.add(`socket:[${inode}]`);
  }
  const isOwn = (fd: string): boolean => {
    try {
      return !ofClients.has(readlinkSync(`/proc/${one.pid}/fd/${fd}`));
    } catch {
      return false; // closed since it was listed
    }
  };
  return readdirSync(`/proc/${one.pid}/fd`).filter(isOwn).length;
}

/** Keys, and the bytes of data alone, without buffers and scripts. Figures of the cluster live for ten minutes, whatever else is shortened. */
async function storeSize(redis: Redis): Promise<Record<string, number>> {
  let keys = 0;
  for await (const page of redis.scanStream({ count: 1_000 })) {
    keys += (page as string[]).filter((name) => !name.includes(":figures:")).length;
  }
  const memory = (await redis.call("MEMORY", "STATS")) as unknown[];
  return { keys, "data MB": Number(memory[memory.indexOf("dataset.bytes") + 1]) / mebibyte };
}

/**
 * How a figure moved: the median of the first third of the time against that of the last third, since a single sample may meet a process
 * that has just collected its garbage, or is just about to.
 */
export function growthOf(all: readonly Sample[], name: string): { before: number; after: number; minutes: number } {
  const samples = all.filter(({ values }) => values[name] !== undefined);
  const third = Math.floor(samples.length / 3);
  const early = samples.slice(0, third);
  const late = samples.slice(-third);
  const middle = (part: readonly Sample[], of: (sample: Sample) => number): number => part.map(of).sort((a, b) => a - b)[part.length >> 1]!;
  const moment = ({ atMs }: Sample): number => atMs;
  return {
    before: middle(early, ({ values }) => values[name]!),
    after: middle(late, ({ values }) => values[name]!),
    minutes: (middle(late, moment) - middle(early, moment)) / 60_000,
  };
}
