/** What became of one stream's jobs: counts by verdict, and how long answers and refusals took. */

import { Latencies, type LatencySummary } from "../../../client-sdk/src/cli/bench/latencies.ts";
import { type Heard, type Verdict, verdictOf, verdicts } from "../../../client-sdk/src/cli/bench/verdict.ts";

export interface StreamFigures {
  /** Jobs that were meant to be sent while it was measured. */
  jobs: number;
  seconds: number;
  counts: Record<Verdict, number>;
  /** Not sent, because as many as the load may hold were under way. A cell with any of these says nothing. */
  notSent: number;
  refusedBy: Record<string, number>;
  /** Of good answers, from the intended moment; absent when there were none. */
  latencyMs?: LatencySummary;
  /** As the client sees it; absent when nothing was refused. */
  refusalMs?: LatencySummary;
  /** By how much the load sent too late; absent for closed loops, which have no intended moment. */
  sentLateMs?: LatencySummary;
  verified: number;
  /** What the first refused job was told. */
  refusal?: string;
  /** What the first failed job was told. */
  failure?: string;
}

export const inTimePerSecond = ({ counts, seconds }: StreamFigures): number => counts["in time"] / seconds;

/** In percent; undefined where none was admitted. */
export function admittedInTime({ counts }: StreamFigures): number | undefined {
  const admitted = counts["in time"] + counts.late + counts.expired;
  return admitted === 0 ? undefined : (100 * counts["in time"]) / admitted;
}

export class StreamTally {
  readonly #counts = Object.fromEntries(verdicts.map((verdict) => [verdict, 0])) as Record<Verdict, number>;
  readonly #refusedBy: Record<string, number> = {};
  readonly #latencies = new Latencies();
  readonly #refusals = new Latencies();
  readonly #sentLate = new Latencies();
  #jobs = 0;
  #notSent = 0;
  #verified = 0;
  #refusal: string | undefined;
  #failure: string | undefined;

  sent(lateMs: number | undefined): void {
    this.#jobs++;
    if (lateMs !== undefined) this.#sentLate.record(lateMs);
  }

  notSent(): void {
    this.#jobs++;
    this.#notSent++;
  }

  heard(answer: Heard & { told?: string | undefined }): void {
    const verdict = verdictOf(answer);
    this.#counts[verdict]++;
    if (verdict === "in time" || verdict === "late") this.#latencies.record(answer.latencyMs);
    if (verdict === "refused") {
      this.#refusals.record(answer.latencyMs);
      this.#refusal ??= answer.told;
      this.#refusedBy[answer.code!] = (this.#refusedBy[answer.code!] ?? 0) + 1;
    }
    if (verdict === "failed") this.#failure ??= answer.told ?? `status ${answer.status}`;
  }

  verified(): void {
    this.#verified++;
  }

  figures(seconds: number): StreamFigures {
    const [latencyMs, refusalMs, sentLateMs] = [this.#latencies, this.#refusals, this.#sentLate].map((of) => of.summary());
    return {
      jobs: this.#jobs,
      seconds,
      counts: this.#counts,
      notSent: this.#notSent,
      refusedBy: this.#refusedBy,
      ...(latencyMs && { latencyMs }),
      ...(refusalMs && { refusalMs }),
      ...(sentLateMs && { sentLateMs }),
      verified: this.#verified,
      ...(this.#refusal !== undefined && { refusal: this.#refusal }),
      ...(this.#failure !== undefined && { failure: this.#failure }),
    };
  }
}
