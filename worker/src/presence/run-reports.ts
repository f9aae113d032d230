/**
 * What this host's runs took, gathered between two beats and told with the next one: estimates of the whole cluster are made of it, and no run
 * waits for it. What could not be told is told with a later beat, up to a bound.
 */

import { type Ladder, loadReports, overheadReport, type RunReport, type RunSample, sampleReports } from "@switchyard/protocol";
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
}

export class RunReports {
  readonly #redis: RedisClient;
  readonly #untold = new Map<string, Untold>();

  constructor(redis: RedisClient) {
    this.#redis = redis;
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

  ran(tag: string, run: { overheadMs: number; sample?: (RunSample & { size: number }) | undefined }): void {
    const untold = this.#of(tag);
    untold.overheadMs = run.overheadMs;
    if (!run.sample) return;
    const samples = untold.samples.get(run.sample.size);
    if (samples) samples.push(run.sample);
    else untold.samples.set(run.sample.size, [run.sample]);
    if (samples && samples.length > mostSamples) samples.splice(0, samples.length - mostSamples);
  }

  /** `device`: the class of this host's. Throws what the store answers; then nothing is lost but the time. */
  async flush(device: string): Promise<void> {
    for (const [tag, untold] of [...this.#untold]) {
      this.#untold.delete(tag);
      try {
        await runScript(this.#redis, "report", keys.base(tag), this.#reportsOf(untold, device).flat());
      } catch (error) {
        this.#giveBack(tag, untold);
        throw error;
      }
    }
  }

  #giveBack(tag: string, before: Untold): void {
    const now = this.#of(tag);
    now.load ??= before.load;
    now.overheadMs ??= before.overheadMs;
    for (const [size, samples] of before.samples) {
      now.samples.set(size, [...samples, ...(now.samples.get(size) ?? [])].slice(-mostSamples));
    }
  }

  #reportsOf({ samples, load, overheadMs }: Untold, device: string): RunReport[] {
    const reports = [...samples].flatMap(([size, runs]) => sampleReports(device, size, runs));
    if (load) reports.push(...loadReports(device, load));
    if (overheadMs !== undefined) reports.push(overheadReport(device, overheadMs));
    return reports;
  }
}
