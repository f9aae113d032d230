/**
 * What this host's runs took and what it has counted, gathered for a moment and then told: estimates and statistics of the whole cluster are
 * made of it, and no run waits for it. What could not be told is told later: counters all of it and once, samples up to a bound.
 */

import { randomInt } from "node:crypto";
import {
  addedTime,
  addTally,
  type DeviceTime,
  deviceTimeReport,
  type Ladder,
  loadReports,
  overheadReport,
  type QueueTally,
  type RanTime,
  type RunReport,
  type RunSample,
  sampleReports,
  tallyReports,
  timeEveryMs,
  UntoldTallies,
} from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";
import { runScript } from "../redis-connection.ts";

/** Of one queue and beat; the newest are kept. */
const mostSamples = 200;

/** Of queues, those that ran last. */
const mostTimes = 1_000;
const leftOverMs = 2 * timeEveryMs;

interface Untold {
  /** By size class. */
  samples: Map<number, RunSample[]>;
  load: { warmUp: Ladder; loadMs: number } | undefined;
  overheadMs: number | undefined;
}

/** Of one queue. */
interface Times {
  untold: DeviceTime | undefined;
  /** The last one that was told. */
  toldMs: number;
}

export class RunReports {
  readonly #redis: RedisClient;
  readonly #incarnation: string;
  readonly #untold = new Map<string, Untold>();
  readonly #host = randomInt(2 ** 40);
  readonly #times = new Map<string, Times>();
  readonly #tallies = new UntoldTallies();
  #flushing: Promise<void> | undefined;

  constructor(redis: RedisClient, incarnation: string) {
    this.#redis = redis;
    this.#incarnation = incarnation;
  }

  #of(tag: string): Untold {
    let untold = this.#untold.get(tag);
    if (!untold) {
      untold = { samples: new Map(), load: undefined, overheadMs: undefined };
      this.#untold.set(tag, untold);
    }
    return untold;
  }

  loaded(tag: string, load: { warmUp: Ladder; loadMs: number }): void {
    this.#of(tag).load = load;
  }

  ran(tag: string, run: { overheadMs: number; sample?: (RunSample & { size: number }) | undefined; time?: RanTime | undefined }): void {
    const untold = this.#of(tag);
    untold.overheadMs = run.overheadMs;
    if (run.time) this.#addTime(tag, run.time);
    if (!run.sample) return;
    const samples = untold.samples.get(run.sample.size);
    if (samples) samples.push(run.sample);
    else untold.samples.set(run.sample.size, [run.sample]);
    if (samples && samples.length > mostSamples) samples.splice(0, samples.length - mostSamples);
  }

  /** What was left over long ago says nothing of now. */
  #addTime(tag: string, time: RanTime): void {
    const times = this.#times.get(tag) ?? { untold: undefined, toldMs: Number.NEGATIVE_INFINITY };
    const before = times.untold && Math.abs(time.atMs - times.untold.atMs) <= leftOverMs ? times.untold : undefined;
    times.untold = addedTime(before, { ...time, host: this.#host });
    this.#times.delete(tag);
    this.#times.set(tag, times);
    const [oldest] = this.#times.keys();
    if (this.#times.size > mostTimes) this.#times.delete(oldest!);
  }

  /** What is to be told now: once a second, so that a coordinator hears of every host of a class. The store's clock may have been set back. */
  #dueTime(tag: string): DeviceTime | undefined {
    const times = this.#times.get(tag);
    const due = times?.untold;
    if (!times || !due || Math.abs(due.atMs - times.toldMs) < timeEveryMs) return undefined;
    times.untold = undefined;
    return due;
  }

  counted(tag: string, tally: QueueTally): void {
    addTally(this.#tallies.of(tag), tally);
  }

  /**
   * `device`: the class of this host's. Throws what the store answers; then nothing is lost but the time. What comes during a flush is told by
   * the next one.
   */
  flush(device: string): Promise<void> {
    this.#flushing ??= this.#flush(device).finally(() => {
      this.#flushing = undefined;
    });
    return this.#flushing;
  }

  async #flush(device: string): Promise<void> {
    let failure: unknown;
    for (const tag of new Set([...this.#untold.keys(), ...this.#tallies.tags()])) {
      const untold = this.#untold.get(tag);
      this.#untold.delete(tag);
      const counted = this.#tallies.next(tag);
      const time = this.#dueTime(tag);
      const facts = [
        ...(untold ? this.#reportsOf(untold, device) : []),
        ...(time ? [deviceTimeReport(device, time)] : []),
        ...(counted ? tallyReports(counted.tally) : []),
      ];
      try {
        await runScript(this.#redis, "report", keys.base(tag), [this.#incarnation, counted?.sequence ?? 0, ...facts.flat()]);
        this.#tallies.told(tag);
        const times = time && this.#times.get(tag);
        if (times) times.toldMs = time.atMs;
      } catch (error) {
        if (untold) this.#giveBack(tag, untold);
        if (time) this.#giveBackTime(tag, time);
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  #giveBack(tag: string, before: Untold): void {
    const now = this.#of(tag);
    now.load ??= before.load;
    now.overheadMs ??= before.overheadMs;
    for (const [size, samples] of before.samples) {
      now.samples.set(size, [...samples, ...(now.samples.get(size) ?? [])].slice(-mostSamples));
    }
  }

  #giveBackTime(tag: string, before: DeviceTime): void {
    const times = this.#times.get(tag);
    if (times) times.untold = times.untold ? addedTime(before, times.untold) : before;
  }

  #reportsOf({ samples, load, overheadMs }: Untold, device: string): RunReport[] {
    const reports = [...samples].flatMap(([size, runs]) => sampleReports(device, size, runs));
    if (load) reports.push(...loadReports(device, load));
    if (overheadMs !== undefined) reports.push(overheadReport(device, overheadMs));
    return reports;
  }
}
