/**
 * A runner whose store is a test: every exchange waits until the test answers it. Time moves when the test says so, or when the runner
 * sleeps. The model doubles `x`; loading it may be held up or fail.
 */

import { encodeFrame, type ModelConfig, type ModelVersion, SwitchyardError, type Tensor, tensor, toTypedArray } from "@switchyard/protocol";
import type { ClaimAnswer, ClaimedJob, ClaimWish, Commit, Exchanged, Handed } from "../../worker/src/runner/claims.ts";
import type { Following } from "../../worker/src/runner/followed-batch.ts";
import type { FromRunner, Unready } from "../../worker/src/runner/messages.ts";
import { RunTallies } from "../../worker/src/runner/run-tallies.ts";
import { Runner } from "../../worker/src/runner/runner.ts";
import type { LoadedModel } from "../../worker/src/runtime/loaded-model.ts";
import { freshMemory } from "../../worker/src/runtime/stacking.ts";

export interface Exchange {
  commit: Commit | undefined;
  wish: ClaimWish | undefined;
  /** `{}` is a reply that got lost. */
  answer(what: Exchanged): void;
  /** The connection is away. */
  fail(): void;
}

/** Values in the order of coming, for whoever waits. */
class Arrivals<Value> {
  readonly #values: Value[] = [];
  readonly #waiting: ((value: Value) => void)[] = [];

  put(value: Value): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(value);
    else this.#values.push(value);
  }

  next(): Promise<Value> {
    const value = this.#values.shift();
    if (value !== undefined) return Promise.resolve(value);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

export const lingerMs = 20;

export class RunnerRig {
  readonly runner: Runner;
  readonly told: FromRunner[] = [];
  readonly tallies = new RunTallies(() => {});
  /** What the board showed before each run. */
  readonly board: string[] = [];
  readonly slept: number[] = [];
  readonly loaded = new Set<string>(["a", "b"]);
  readonly ended: Promise<void>;
  /** Floats in each item of `x`. */
  itemFloats = 1;
  pins = 0;
  /** How a model that is not loaded becomes so. */
  load: (tag: string) => Promise<void> = async () => {};
  /** What arrives while the thread is deaf is heard here. */
  onTurn: () => Promise<void> = async () => {};
  /** Called for each read of inputs; may throw. */
  onInputs: () => void = () => {};
  /** Before a run's outputs are put away. */
  onOutputs: () => Promise<void> = async () => {};
  /** A claim that the store has and the runner has not; answers how many jobs went back, and may throw. */
  onGiveBack: (tag: string, sequence: number) => Promise<number> = async () => 0;
  /** The same of the claim that got no answer. */
  onGiveBackUnheard: (tag: string) => Promise<number> = async () => 0;
  /** Whether a job that was handed over is what the next claim would have answered. */
  onHanded: (handed: Handed) => boolean = () => true;
  /** Called for each run of a model; may throw, and let time pass. */
  onRun: (items: number) => void = () => {};
  /** Models that run beside the runner's thread, and when each of their runs is over. */
  readonly beside = new Map<string, (items: number) => Promise<void>>();
  /** Of every model. */
  config: ModelConfig = {};
  readonly #models = new Map<string, LoadedModel>();
  readonly #exchanges = new Arrivals<Exchange>();
  readonly #idles = new Arrivals<number>();
  #nowMs = 1_000;
  #timers: { atMs: number; run: () => void }[] = [];
  #jobs = 0;
  #sequence = 0;

  constructor({ following }: { following?: Following } = {}) {
    this.runner = new Runner({
      ...(following && { following }),
      tallies: this.tallies,
      claims: {
        exchange: (commit, wish) => {
          const reply = Promise.withResolvers<Exchanged>();
          const fail = (): void => reply.reject(new Error("the connection to Redis is not ready"));
          this.#exchanges.put({ commit, wish, answer: reply.resolve, fail });
          return reply.promise;
        },
        giveBack: (tag, sequence) => this.onGiveBack(tag, sequence),
        giveBackUnheard: (tag) => this.onGiveBackUnheard(tag),
        accepts: (handed) => this.onHanded(handed),
        inputs: async (_tag, jobs) => {
          this.onInputs();
          return jobs.map(() => Buffer.from(encodeFrame([tensor("x", new Float32Array(this.itemFloats).fill(1), [1, this.itemFloats])])));
        },
      },
      largeValues: { fetched: async (_ids, stored) => [...stored], stored: (results) => this.onOutputs().then(() => [...results]) },
      models: {
        ensure: async ({ tag }) => {
          if (!this.loaded.has(tag)) {
            await this.load(tag);
            this.#models.delete(tag);
          }
          this.loaded.add(tag);
          const model = this.#models.get(tag) ?? this.#model(tag);
          this.#models.set(tag, model);
          return model;
        },
        isLoaded: ({ tag }) => this.loaded.has(tag),
        runsBeside: ({ tag }) => this.#models.get(tag)?.isBeside ?? false,
        pin: () => {
          this.pins += 1;
          return () => {
            this.pins -= 1;
          };
        },
      },
      clock: {
        monotonicMs: () => this.#nowMs,
        nowMs: () => this.#nowMs,
        sleep: async (ms) => {
          this.slept.push(ms);
          this.#nowMs += ms;
        },
        turn: () => this.onTurn(),
        after: (ms, run) => {
          const timer = { atMs: this.#nowMs + ms, run };
          this.#timers.push(timer);
          this.#idles.put(ms);
          return () => {
            this.#timers = this.#timers.filter((other) => other !== timer);
          };
        },
      },
      lingerMs,
      board: { write: (claims) => this.board.push(claims.map(({ tag, sequence }) => `${tag}=${sequence}`).join(" ")) },
      tell: (message) => this.told.push(message),
    });
    this.ended = this.runner.run();
  }

  #model(tag: string): LoadedModel {
    const value = (name: string) => ({ name, datatype: "FP32" as const, shape: [-1, -1] });
    const session = {
      inputs: [value("x")],
      outputs: [value("double")],
      run: async (feeds: readonly Tensor[]) => {
        const [x] = feeds as [Tensor];
        this.onRun(x.shape[0] ?? 0);
        await this.beside.get(tag)?.(x.shape[0] ?? 0);
        const doubled = (toTypedArray(x) as Float32Array).map((number) => 2 * number);
        return new Map([["double", tensor("double", doubled, [...x.shape])]]);
      },
    };
    const model = { version: versionOf(tag), session, scratch: freshMemory, clock: { monotonicMs: () => this.#nowMs } };
    return { ...model, isBeside: this.beside.has(tag), batching: { maxItems: 8192, reason: "test" } } as unknown as LoadedModel;
  }

  serve(ticketId: string, unready: Unready = "tell"): void {
    this.runner.serve(ticketId, { ...versionOf(ticketId.slice(0, 1)), config: this.config }, unready);
  }

  /** The runner's next exchange. */
  exchange(): Promise<Exchange> {
    return this.#exchanges.next();
  }

  /** The runner has nothing to do; answers for how many milliseconds it means to wait. */
  idle(): Promise<number> {
    return this.#idles.next();
  }

  pass(ms: number): void {
    this.#nowMs += ms;
    const due = this.#timers.filter(({ atMs }) => atMs <= this.#nowMs);
    this.#timers = this.#timers.filter(({ atMs }) => atMs > this.#nowMs);
    for (const { run } of due) run();
  }

  /** The store's clock is another one. */
  storeMs(): number {
    return this.#nowMs + 999_000;
  }

  /** A claim's answer with this many jobs, whose deadlines are `slackMs` ahead. */
  batch(jobs = 1, slackMs = 60_000): ClaimAnswer & { kind: "batch"; jobs: ClaimedJob[] } {
    this.#sequence += 1;
    const nowMs = this.storeMs();
    const claimed = Array.from({ length: jobs }, (): ClaimedJob => {
      this.#jobs += 1;
      const times = { deadlineMs: nowMs + slackMs, createdMs: nowMs - 5, ttlMs: 60_000 };
      return { id: `job-${this.#jobs}`, fence: 1, items: 1, attempt: 1, class: "standard", size: 0, ...times };
    });
    return { kind: "batch", nowMs, sequence: this.#sequence, jobs: claimed };
  }

  /** Drains, and answers what is asked until the runner has ended: commits are settled, queues are empty. */
  async finish(): Promise<void> {
    this.runner.drain();
    let isOver = false;
    const over = this.ended.then(() => {
      isOver = true;
    });
    while (!isOver) {
      const asked = this.exchange().then(({ commit, wish, answer }) =>
        answer({ ...(commit ? { committed: commit.results.map(() => "committed") } : {}), ...(wish ? { claim: { kind: "empty" } } : {}) }),
      );
      await Promise.race([asked, over]);
    }
  }

  ends(): [string, boolean][] {
    return this.told.filter((one) => one.kind === "ended").map(({ ticketId, release }) => [ticketId, release]);
  }

  troubles(): string[] {
    return this.told.filter((one) => one.kind === "trouble").map(({ message }) => message);
  }
}

export function versionOf(tag: string): ModelVersion {
  return { model: tag, version: 1, digest: tag, tag, sizeBytes: 1, path: "", signature: { inputs: [], outputs: [] }, config: {} };
}

export const notReady = (): SwitchyardError => new SwitchyardError("model_not_ready", "the file is damaged");
