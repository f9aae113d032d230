/**
 * Has Redis rewrite its append-only file when there is a core's time for that which nobody takes. Under load the server itself does so as late as can be (redis-server.ts): the process that
 * writes the new file takes a core for seconds, from those that serve (docs/decisions/0018-when-the-file-is-rewritten.md).
 */

import { readFileSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { cpus } from "node:os";
import path from "node:path";
import { RedisConnection } from "../adapters/redis-connection.ts";
import type { Clock, MomentClock } from "../clock.ts";
import { allowedCores } from "./core-pair.ts";

/** A smaller file is read at a start within two seconds. */
export const leastRewriteBytes: number = 512 * 1024 * 1024;
/** What a core has free, or most of one where there is one, in so many looks in a row: what the new file's writer takes is then nobody's. */
const freeCores = 1;
const freeOfOneCore = 0.8;
const calmLooks = 3;
/** A rewrite, or what keeps it from happening, takes seconds. */
const againMs = 60_000;
/** Of the kernel's figures for users, on every Linux. */
const tickMs = 10;

export interface Idle {
  cores: number;
  /** For which they had nothing to do so far, in milliseconds, summed. */
  idleMs: number;
}

/** Of the cores that this process may use, on a system that tells which these are; in a container that is given less than the machine, of the machine. */
export function idleOfMachine(): Idle {
  const allowed = allowedCores();
  if (allowed.length === 0) {
    const all = cpus();
    return { cores: all.length, idleMs: all.reduce((sum, { times }) => sum + times.idle, 0) };
  }
  const idleTicks = new Map(
    [...readFileSync("/proc/stat", "utf8").matchAll(/^cpu(\d+) +\d+ +\d+ +\d+ +(\d+)/gm)].map(([, core, ticks]) => [
      Number(core),
      Number(ticks),
    ]),
  );
  return { cores: allowed.length, idleMs: allowed.reduce((sum, core) => sum + (idleTicks.get(core) ?? 0) * tickMs, 0) };
}

export class CalmRewrites {
  readonly #folder: string;
  readonly #rewrite: () => Promise<void>;
  readonly #clock: Clock;
  readonly #idle: () => Idle;
  readonly #leastBytes: number;
  #seen: { atMs: number; idleMs: number } | undefined;
  #looks = 0;
  #isLooking = false;
  #askedMs: number | undefined;

  constructor(parts: {
    /** The server's data folder. */
    folder: string;
    /** Asks the server for a rewrite. May fail: that is tried again. */
    rewrite: () => Promise<void>;
    clock: Clock;
    /** Default: `idleOfMachine`. */
    idle?: () => Idle;
    /** Below that nothing is asked. Default: `leastRewriteBytes`. */
    leastBytes?: number;
  }) {
    this.#folder = parts.folder;
    this.#rewrite = parts.rewrite;
    this.#clock = parts.clock;
    this.#idle = parts.idle ?? idleOfMachine;
    this.#leastBytes = parts.leastBytes ?? leastRewriteBytes;
  }

  /** To be called once a second; does nothing while a look is under way. Never throws. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      this.#looks = this.#isCalm() ? this.#looks + 1 : 0;
      if (this.#looks < calmLooks || !this.#isAskable() || !(await this.#isDue())) return;
      this.#askedMs = this.#clock.monotonicMs();
      await this.#rewrite();
    } catch {
      // the server may be away, or at it; what it cannot do, its log says and `switchyard doctor` finds
    } finally {
      this.#isLooking = false;
    }
  }

  #isCalm(): boolean {
    const { cores, idleMs } = this.#idle();
    const now = { atMs: this.#clock.monotonicMs(), idleMs };
    const before = this.#seen;
    this.#seen = now;
    const needed = Math.min(freeCores, cores * freeOfOneCore);
    return before !== undefined && now.idleMs - before.idleMs >= needed * (now.atMs - before.atMs);
  }

  #isAskable(): boolean {
    return this.#askedMs === undefined || this.#clock.monotonicMs() - this.#askedMs >= againMs;
  }

  /** By the server's own rule: what came since the last rewrite is as much as it left, and there is much of it. */
  async #isDue(): Promise<boolean> {
    const { baseBytes, addedBytes } = await fileBytes(this.#folder);
    return baseBytes + addedBytes >= this.#leastBytes && addedBytes >= baseBytes;
  }
}

/** Of the append-only file: what the last rewrite left, and what came since. Redis 7 and Valkey keep them apart. */
async function fileBytes(folder: string): Promise<{ baseBytes: number; addedBytes: number }> {
  const parts = path.join(folder, "appendonlydir");
  const bytes = { baseBytes: 0, addedBytes: 0 };
  for (const name of await readdir(parts)) {
    const kind = /\.(base|incr)\.(?:rdb|aof)$/.exec(name)?.[1];
    if (kind === undefined) continue;
    const { size } = await stat(path.join(parts, name));
    bytes[kind === "base" ? "baseBytes" : "addedBytes"] += size;
  }
  return bytes;
}

/** Returns when the server has begun. Throws when it cannot, as while it is at it. */
export async function askForRewrite(url: string, clock: Clock & MomentClock): Promise<void> {
  const connection = new RedisConnection(url, "switchyard-up", clock);
  try {
    await connection.connect();
    await connection.sendAll([["bgrewriteaof"]]);
  } finally {
    await connection.close();
  }
}
