/** Eyes on the store while things break: work that stands still though it could go on. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import type { WorkerProcess } from "../support/processes.ts";

interface Parts {
  redis: Redis;
  /** Of the queue's keys. */
  base: string;
  workers: readonly WorkerProcess[];
}

const everyMs = 250;
/** How long jobs may wait beside an idle host, or run on nobody. */
const allowedMs = 5_000;

export class Watch {
  readonly stalls: string[] = [];
  readonly #parts: Parts;
  /** Incarnations that a recipe has frozen: they hold what they hold, and do not run it. */
  readonly #frozen = new Set<string>();
  /** Incarnations whose process has ended: one that starts again is idle only when it has registered anew. */
  readonly #ended = new Set<string>();
  /** Since when, by what. */
  readonly #since = new Map<string, number>();
  readonly #told = new Set<string>();
  #loop: Promise<void> | undefined;
  #startedMs = 0;
  #over = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  start(): void {
    this.#startedMs = performance.now();
    this.#loop = this.#look();
  }

  async stop(): Promise<void> {
    this.#over = true;
    await this.#loop;
  }

  /** Excuses everybody for as long as a recipe keeps them from working. */
  isPaused = false;

  freeze(worker: WorkerProcess): void {
    this.#frozen.add(worker.incarnation);
    worker.signal("SIGSTOP");
  }

  thaw(worker: WorkerProcess): void {
    worker.signal("SIGCONT");
    this.#frozen.delete(worker.incarnation);
  }

  async #look(): Promise<void> {
    while (!this.#over) {
      const startedMs = performance.now();
      // a store that does not answer excuses everybody, for as long as it does not
      const seen = await this.#read().catch(() => undefined);
      if (this.isPaused || seen === undefined || performance.now() - startedMs > 1_000) this.#since.clear();
      else this.#judge(seen);
      await sleep(everyMs);
    }
  }

  async #read(): Promise<{ waiting: number; claims: Map<string, number> }> {
    const { base, redis } = this.#parts;
    const [flows, claims] = await Promise.all([redis.hkeys(`${base}flows`), redis.hgetall(`${base}claims`)]);
    const waiting = await Promise.all(flows.map((flow) => redis.zcard(`${base}order:${flow}`)));
    return {
      waiting: waiting.reduce((sum, count) => sum + count, 0),
      claims: new Map(Object.entries(claims).map(([incarnation, text]) => [incarnation, [...text.matchAll(/ [\w-]+=\d+/g)].length])),
    };
  }

  #judge({ waiting, claims }: { waiting: number; claims: Map<string, number> }): void {
    for (const { incarnation, runs } of this.#parts.workers) if (!runs) this.#ended.add(incarnation);
    const live = new Set(this.#parts.workers.map(({ incarnation }) => incarnation)).difference(this.#ended).difference(this.#frozen);
    const now = new Map<string, string>();
    for (const incarnation of live)
      if (waiting > 0 && !claims.get(incarnation)) now.set(`idle ${incarnation}`, `jobs waited beside ${incarnation}, which was idle,`);
    for (const [incarnation, jobs] of claims)
      if (jobs > 0 && !live.has(incarnation)) now.set(`gone ${incarnation}`, `jobs ran on ${incarnation}, which is gone,`);
    for (const key of this.#since.keys()) if (!now.has(key)) this.#since.delete(key);
    for (const [key, what] of now) this.#note(key, what);
  }

  #note(key: string, what: string): void {
    const nowMs = performance.now();
    const sinceMs = this.#since.get(key) ?? nowMs;
    this.#since.set(key, sinceMs);
    if (nowMs - sinceMs <= allowedMs || this.#told.has(key)) return;
    this.#told.add(key);
    this.stalls.push(`${what} for more than ${allowedMs} ms, ${((nowMs - this.#startedMs) / 1_000).toFixed(1)} s after the start`);
  }
}
