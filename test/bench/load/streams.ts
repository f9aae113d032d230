/**
 * Streams of jobs of several tenants and models at once, each at a pace of its own: clients in a closed loop, or arrivals by chance. What is
 * measured are the jobs that were meant to be sent between mark() and finish(); every one of them is waited for.
 */

import { PoissonArrivals, sendArrivals } from "../../../client-sdk/src/cli/bench/arrivals.ts";
import { systemClock } from "../../../client-sdk/src/clock.ts";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { checkValues } from "./answer-check.ts";
import type { Answer } from "./connection.ts";
import { ConnectionPool } from "./connection-pool.ts";
import type { StreamOrder, StreamsOrder } from "./figures.ts";
import { makeCases, type Sample, samplesOf } from "./samples.ts";
import { type StreamFigures, StreamTally } from "./stream-tally.ts";

/** Jobs under way over all streams. A system that keeps more of them waiting than this is not measured by more. */
const mostUnderWay = 4096;
const openedFirst = 64;
const samplesPerModel = 13;

export class Streams {
  readonly #order: StreamsOrder;
  readonly #pool: ConnectionPool;
  readonly #ended = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #tallies: Map<string, StreamTally> | undefined;
  #markedMs = 0;
  #wrong: Error | undefined;

  constructor(order: StreamsOrder) {
    this.#order = order;
    this.#pool = new ConnectionPool(order, mostUnderWay);
  }

  async start(): Promise<void> {
    await this.#pool.open(openedFirst);
    for (const stream of this.#order.streams) {
      const samples = samplesOf(await makeCases(stream.model, samplesPerModel), stream);
      this.#loops.push(
        "clients" in stream.pace ? this.#closed(stream, samples, stream.pace.clients) : this.#open(stream, samples, stream.pace),
      );
    }
  }

  mark(): void {
    this.#tallies = new Map(this.#order.streams.map(({ name }) => [name, new StreamTally()]));
    this.#markedMs = performance.now();
  }

  async finish(): Promise<Record<string, StreamFigures>> {
    const seconds = (performance.now() - this.#markedMs) / 1000;
    const tallies = this.#tallies ?? new Map<string, StreamTally>();
    this.#ended.abort();
    await Promise.all(this.#loops);
    await Promise.all(this.#underWay);
    this.#pool.close();
    if (this.#wrong !== undefined) throw this.#wrong;
    return Object.fromEntries([...tallies].map(([name, tally]) => [name, tally.figures(seconds)]));
  }

  async #closed(stream: StreamOrder, samples: readonly Sample[], clients: number): Promise<void> {
    const client = async (first: number): Promise<void> => {
      for (let next = first; !this.#ended.signal.aborted; next += clients) await this.#job(stream, samples, { number: next });
    };
    await Promise.all(Array.from({ length: clients }, (_, index) => client(index)));
  }

  async #open(stream: StreamOrder, samples: readonly Sample[], pace: { perSecond: number; seed: number }): Promise<void> {
    const { next: random } = seededRandom(pace.seed);
    let number = 0;
    await sendArrivals({
      arrivals: new PoissonArrivals({ perSecond: pace.perSecond, fromMs: performance.now(), random }),
      untilMs: Number.POSITIVE_INFINITY,
      clock: systemClock,
      signal: this.#ended.signal,
      send: (intendedMs) => {
        const job = this.#job(stream, samples, { number: number++, intendedMs });
        this.#underWay.add(job);
        void job.finally(() => this.#underWay.delete(job));
      },
    });
  }

  /** Never rejects: what went wrong is counted, or ends the load when an answer was not the right one. */
  async #job(stream: StreamOrder, samples: readonly Sample[], job: { number: number; intendedMs?: number }): Promise<void> {
    const sentMs = performance.now();
    const fromMs = job.intendedMs ?? sentMs;
    const tally = fromMs >= this.#markedMs ? this.#tallies?.get(stream.name) : undefined;
    if (this.#pool.isFull) return tally?.notSent();
    tally?.sent(job.intendedMs === undefined ? undefined : sentMs - fromMs);
    const sample = samples[job.number % samples.length]!;
    const deadlineMs = stream.timeoutMs;
    let answer: Answer;
    try {
      answer = await this.#pool.ask(sample.requests.http());
    } catch (error) {
      tally?.heard({ status: undefined, latencyMs: performance.now() - fromMs, deadlineMs, told: (error as Error).message });
      return;
    }
    const latencyMs = performance.now() - fromMs;
    const { status } = answer;
    const told = status === 200 ? undefined : `status ${status}: ${answer.body.toString("utf8").slice(0, 300)}`;
    tally?.heard({ status, code: answer.errorCode, latencyMs, deadlineMs, told });
    if (status !== 200 || job.number % this.#order.verifyEvery !== 0) return;
    try {
      checkValues(answer, sample.expected);
      tally?.verified();
    } catch (error) {
      this.#wrong ??= error as Error;
    }
  }
}
