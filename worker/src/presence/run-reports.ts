/**
 * What this host's runs took and what it has counted, gathered for a moment and then told: estimates and statistics of the whole cluster are
 * made of it, and no run waits for it. What could not be told is told later: counters all of it and once, samples up to a bound.
 */

import {
  addTally,
  type DeviceTime,
  deviceTimeReport,
  type Ladder,
  loadReports,
  overheadReport,
  type QueueTally,
  type RunReport,
  type RunSample,
  sampleReports,
  tallyReports,
  together,
  UntoldTallies,
} from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisClient } from "../redis-client.ts";
import { runScript } from "../redis-connection.ts";

/** Of one queue and beat; the newest are kept. */
const mostSamples = 200;

interface Untold {
  /** By size class. */
  samples: Map<number, RunSample[]>;
  load: { warmUp: Ladder; loadMs: number } | undefined;
  overheadMs: number | undefined;
  time: DeviceTime | undefined;
}

export class RunReports {
  readonly #redis: RedisClient;
  readonly #incarnation: string;
  readonly #untold = new Map<string, Untold>();
  readonly #tallies = new UntoldTallies();
  #flushing: Promise<void> | undefined;

  constructor(redis: RedisClient, incarnation: string) {
    this.#redis = redis;
    this.#incarnation = incarnation;
  }

  #of(tag: string): Untold {
    let untold = this.#untold.get(tag);
    if (!untold) {
      untold = { samples: new Map(), load: undefined, overheadMs: undefined, time: undefined };
      this.#untold.set(tag, untold);
    }
    return untold;
  }

  loaded(tag: string, load: { warmUp: Ladder; loadMs: number }): void {
    this.#of(tag).load = load;
  }

  ran(tag: string, run: { overheadMs: number; sample?: (RunSample & { size: number }) | undefined; time?: DeviceTime | undefined }): void {
    const untold = this.#of(tag);
    untold.overheadMs = run.overheadMs;
    if (run.time) untold.time = together(untold.time, run.time);
    if (!run.sample) return;
    const samples = untold.samples.get(run.sample.size);
    if (samples) samples.push(run.sample);
    else untold.samples.set(run.sample.size, [run.sample]);
    if (samples && samples.length > mostSamples) samples.splice(0, samples.length - mostSamples);
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
      const facts = [...(untold ? this.#reportsOf(untold, device) : []), ...(counted ? tallyReports(counted.tally) : [])];
      try {
        await runScript(this.#redis, "report", keys.base(tag), [this.#incarnation, counted?.sequence ?? 0, ...facts.flat()]);
        this.#tallies.told(tag);
      } catch (error) {
        if (untold) this.#giveBack(tag, untold);
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  #giveBack(tag: string, before: Untold): void {
    const now = this.#of(tag);
    now.load ??= before.load;
    now.overheadMs ??= before.overheadMs;
    now.time = now.time ? together(before.time, now.time) : before.time;
    for (const [size, samples] of before.samples) {
      now.samples.set(size, [...samples, ...(now.samples.get(size) ?? [])].slice(-mostSamples));
    }
  }

  #reportsOf({ samples, load, overheadMs, time }: Untold, device: string): RunReport[] {
    const reports = [...samples].flatMap(([size, runs]) => sampleReports(device, size, runs));
    if (load) reports.push(...loadReports(device, load));
    if (overheadMs !== undefined) reports.push(overheadReport(device, overheadMs));
    if (time) reports.push(deviceTimeReport(device, time));
    return reports;
  }
}
