/** One point of a sweep: a load for some seconds against a running server, and what became of its jobs. */

import { ClientError, ConnectionError, TimeoutError } from "../../client-errors.ts";
import type { Clock } from "../../clock.ts";
import { PoissonArrivals, sendArrivals } from "./arrivals.ts";
import { Latencies, type LatencySummary } from "./latencies.ts";
import { type Verdict, verdictOf, verdicts } from "./verdict.ts";

/** Clients that each send when they were answered, or arrivals by chance, so many a second. */
export type PointLoad = { clients: number } | { perSecond: number };

export interface BenchPoint {
  load: PointLoad;
  seconds: number;
  /** That were sent, or meant to be sent, while it was measured. */
  jobs: number;
  counts: Record<Verdict, number>;
  /** Refusals by code. */
  refusedBy: Record<string, number>;
  /** Not sent, because as many as one process can hold were under way. */
  notSent: number;
  /** Good answers, in time or late. */
  answeredPerSecond: number;
  inTimePerSecond: number;
  /** Of good answers; of an open load from the moment they were meant to be sent. Absent when there were none. */
  latencyMs?: LatencySummary;
  /** What the first failed job was told. */
  failure?: string;
}

export interface PointPlan {
  /** Sends one job; rejects with what was answered. */
  send: (number: number, signal: AbortSignal) => Promise<unknown>;
  load: PointLoad;
  /** Undefined: any time will do. */
  deadlineMs: number | undefined;
  warmupMs: number;
  measuredMs: number;
}

const mostUnderWay = 2048;

/** Waits for every job that was sent. Throws the signal's reason, and ConnectionError when no job had any answer. */
export async function measurePoint(plan: PointPlan, clock: Clock, signal: AbortSignal): Promise<BenchPoint> {
  const fromMs = clock.monotonicMs() + plan.warmupMs;
  const untilMs = fromMs + plan.measuredMs;
  const tally = new PointTally(plan, { fromMs, untilMs });
  let number = 0;
  const job = async (intendedMs: number): Promise<void> => {
    let error: unknown;
    try {
      await plan.send(number++, signal);
    } catch (thrown) {
      error = thrown;
    }
    if (!signal.aborted) tally.ended({ intendedMs, doneMs: clock.monotonicMs(), error });
  };
  if ("clients" in plan.load) {
    const client = async (): Promise<void> => {
      while (!signal.aborted && clock.monotonicMs() < untilMs) await job(clock.monotonicMs());
    };
    await Promise.all(Array.from({ length: plan.load.clients }, client));
  } else {
    const underWay = new Set<Promise<void>>();
    const arrivals = new PoissonArrivals({ perSecond: plan.load.perSecond, fromMs: clock.monotonicMs(), random: () => clock.jitter() });
    const send = (intendedMs: number): void => {
      if (underWay.size >= mostUnderWay) {
        tally.notSent(intendedMs);
        return;
      }
      const sent = job(intendedMs);
      underWay.add(sent);
      void sent.finally(() => underWay.delete(sent));
    };
    await sendArrivals({ arrivals, untilMs, clock, signal, send });
    await Promise.all(underWay);
  }
  signal.throwIfAborted();
  return tally.point();
}

class PointTally {
  readonly #plan: PointPlan;
  readonly #window: { fromMs: number; untilMs: number };
  readonly #counts = Object.fromEntries(verdicts.map((verdict) => [verdict, 0])) as Record<Verdict, number>;
  readonly #refusedBy: Record<string, number> = {};
  readonly #latencies = new Latencies();
  #notSent = 0;
  #away: ConnectionError | undefined;
  #failure: string | undefined;

  constructor(plan: PointPlan, window: { fromMs: number; untilMs: number }) {
    this.#plan = plan;
    this.#window = window;
  }

  #isMeasured(moment: number): boolean {
    return moment >= this.#window.fromMs && moment < this.#window.untilMs;
  }

  notSent(intendedMs: number): void {
    if (this.#isMeasured(intendedMs)) this.#notSent++;
  }

  /** A closed loop's jobs count when they end within the measured time, an open load's when they were meant to be sent within it. */
  ended({ intendedMs, doneMs, error }: { intendedMs: number; doneMs: number; error: unknown }): void {
    if (!this.#isMeasured("clients" in this.#plan.load ? doneMs : intendedMs)) return;
    const latencyMs = doneMs - intendedMs;
    const { status, code } = heardIn(error);
    const verdict = verdictOf({ status, code, latencyMs, deadlineMs: this.#plan.deadlineMs });
    this.#counts[verdict]++;
    if (verdict === "in time" || verdict === "late") this.#latencies.record(latencyMs);
    if (verdict === "refused") this.#refusedBy[code!] = (this.#refusedBy[code!] ?? 0) + 1;
    if (verdict !== "failed") return;
    this.#failure ??= error instanceof Error ? error.message : String(error);
    if (error instanceof ConnectionError) this.#away ??= error;
  }

  point(): BenchPoint {
    const counts = this.#counts;
    const seconds = this.#plan.measuredMs / 1000;
    const ended = verdicts.reduce((sum, verdict) => sum + counts[verdict], 0);
    if (this.#away !== undefined && counts.failed === ended) throw this.#away;
    const latencyMs = this.#latencies.summary();
    return {
      load: this.#plan.load,
      seconds,
      jobs: ended + this.#notSent,
      counts,
      refusedBy: this.#refusedBy,
      notSent: this.#notSent,
      answeredPerSecond: (counts["in time"] + counts.late) / seconds,
      inTimePerSecond: counts["in time"] / seconds,
      ...(latencyMs && { latencyMs }),
      ...(this.#failure !== undefined && { failure: this.#failure }),
    };
  }
}

/** The client's own clock may find that a deadline passed before the server says so. */
function heardIn(error: unknown): { status: number | undefined; code?: string } {
  if (error === undefined) return { status: 200 };
  if (error instanceof TimeoutError) return { status: 504 };
  return error instanceof ClientError ? { status: error.status, code: error.code } : { status: undefined };
}
