/**
 * Many jobs over POST /v1/jobs:batch, each answered once. Jobs go out in requests of some hundred lines that are held until their jobs end. What a
 * request leaves unanswered, because its time was over, its server died or refused for now, is sent again under the same keys, and finds
 * the jobs that exist. Holds the jobs that are under way, of their results those that are small, and nothing of the others.
 */

import { timeLimit } from "./abort.ts";
import { ClientError, ConnectionError, errorFromProblem } from "./client-errors.ts";
import { outcomeError } from "./job-handle.ts";
import { hasEnded, type JobView, readBatchLine } from "./job-records.ts";
import { memberText } from "./json-member.ts";
import { mayRetry, retryDelayMs } from "./retry-policy.ts";
import type { Transport } from "./transport.ts";

/** One job to be run, or why it cannot be sent at all. */
export type BatchLine = { index: number } & ({ json: string } | { error: ClientError });

/** What became of a job. Without an id it never was one. */
export type BatchOutcome<Result> = { index: number; jobId: string | undefined } & (
  | { result: Result; error?: undefined }
  | { error: ClientError; result?: undefined }
);

export interface BatchPlan<Result> {
  lines: AsyncIterable<BatchLine> | Iterable<BatchLine>;
  /** Job `index` has the key `key/index`. */
  key: string;
  /** Jobs under way. */
  atOnce: number;
  /** How long a refusal of the deadline is not the last word; undefined: for ever. */
  timeoutMs: number | undefined;
  signal: AbortSignal | undefined;
  /** Makes the result of a job that succeeded; its text is absent where it is too large to come with the job, or has no JSON form. */
  read(view: JobView, text: string | undefined): Result | Promise<Result>;
}

const path = "/v1/jobs:batch";
const waitSeconds = 25;
/** No line for longer than the wait, and this, means that the server is away. */
const graceMs = 15_000;
const mostLines = 250;
/** A request is sent whole, and again when it fails. */
const mostBytes = 3 * 1_048_576;
/** What comes within this time goes together. */
const gatherMs = 10;
/** A job whose result was no longer kept is run again; not for ever. */
const mostRuns = 3;
/** Results that do not come with their job, because they are large: so many are fetched, or wait for the caller, at a time. */
const mostLarge = 4;
/** A wait that the server ends sooner is asked for again no faster. */
const shortestWaitMs = 200;

interface Item {
  index: number;
  json: string;
  /** Of its key: rises when the result of an earlier job under it is gone. */
  run: number;
  /** In a row, and failures of its requests. */
  refusals: number;
  refusedSinceMs: number | undefined;
}

/**
 * Answers come as jobs end. Throws as Transport.once for what no repeating will change, or when for the retry policy's time nothing but refusals and
 * failures came; the signal's reason when it aborts. The jobs that were sent go on; the same plan finds them again.
 */
export async function* runBatch<Result>(
  transport: Transport,
  plan: BatchPlan<Result>,
): AsyncGenerator<BatchOutcome<Result>, void, undefined> {
  plan.signal?.throwIfAborted();
  const run = new BatchRun(transport, plan);
  try {
    yield* run.outcomes();
  } finally {
    run.stop();
  }
}

class BatchRun<Result> {
  readonly #transport: Transport;
  readonly #plan: BatchPlan<Result>;
  readonly #source: AsyncIterator<BatchLine> | Iterator<BatchLine>;
  readonly #stopped = new AbortController();
  readonly #signal: AbortSignal;
  /** Not handed out yet. */
  readonly #outcomes: { outcome: BatchOutcome<Result>; isLarge: boolean }[] = [];
  /** Large results that are held, and who waits to fetch another. */
  #large = 0;
  readonly #largeTurns: (() => void)[] = [];
  /** To be sent with the next request. */
  #waiting: Item[] = [];
  #waitingBytes = 0;
  /** From the source to the hands of the caller. */
  #underWay = 0;
  #isExhausted = false;
  #failure: { error: unknown } | undefined;
  #mostBytes = mostBytes;
  #mostLines = mostLines;
  /** Since when nothing but failures and refusals came; undefined while all is well. */
  #badSinceMs: number | undefined;
  #isGathering = false;
  #wake: () => void = () => {};
  #changed: Promise<void>;

  constructor(transport: Transport, plan: BatchPlan<Result>) {
    this.#transport = transport;
    this.#plan = plan;
    const { lines } = plan;
    this.#source = Symbol.asyncIterator in lines ? lines[Symbol.asyncIterator]() : lines[Symbol.iterator]();
    this.#signal = plan.signal === undefined ? this.#stopped.signal : AbortSignal.any([plan.signal, this.#stopped.signal]);
    this.#signal.addEventListener("abort", () => this.#wake(), { once: true });
    this.#changed = this.#nextChange();
  }

  async *outcomes(): AsyncGenerator<BatchOutcome<Result>, void, undefined> {
    void this.#feed();
    for (;;) {
      for (let next = this.#outcomes.shift(); next !== undefined; next = this.#outcomes.shift()) {
        yield next.outcome;
        this.#underWay--;
        if (next.isLarge) this.#leaveLarge();
        this.#change();
      }
      this.#plan.signal?.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#isExhausted && this.#underWay === 0) return;
      if (this.#outcomes.length === 0) await this.#changed;
    }
  }

  stop(): void {
    this.#stopped.abort();
    if (this.#isExhausted) return;
    // a source that still waits for its next line ends in its own time
    void Promise.resolve(this.#source.return?.()).catch(() => {});
  }

  #nextChange(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return promise;
  }

  #change(): void {
    this.#wake();
    this.#changed = this.#nextChange();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#change();
  }

  get #isOver(): boolean {
    return this.#signal.aborted || this.#failure !== undefined;
  }

  /** Takes lines from the source while there is room for them. */
  async #feed(): Promise<void> {
    try {
      while (!this.#isOver) {
        if (this.#underWay >= this.#plan.atOnce) {
          await this.#changed;
          continue;
        }
        const next = await this.#source.next();
        if (next.done === true) break;
        this.#underWay++;
        const { index } = next.value;
        if ("error" in next.value) this.#end({ index, jobId: undefined, error: next.value.error });
        else this.#put({ index, json: next.value.json, run: 1, refusals: 0, refusedSinceMs: undefined });
      }
      this.#isExhausted = true;
      this.#change();
    } catch (error) {
      this.#isExhausted = true;
      this.#fail(error);
    }
  }

  #put(item: Item): void {
    const sizeBytes = 3 * item.json.length; // at most; cheaper than counting
    if (this.#waiting.length > 0 && this.#waitingBytes + sizeBytes > this.#mostBytes) this.#flush();
    this.#waiting.push(item);
    this.#waitingBytes += sizeBytes;
    if (this.#waiting.length >= this.#mostLines) this.#flush();
    else if (!this.#isGathering) {
      this.#isGathering = true;
      void this.#transport.clock.sleep(gatherMs, this.#signal).then(() => {
        this.#isGathering = false;
        this.#flush();
      });
    }
  }

  #flush(): void {
    const items = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (items.length > 0 && !this.#isOver) void this.#send(items);
  }

  #end(outcome: BatchOutcome<Result>, { isLarge = false } = {}): void {
    this.#outcomes.push({ outcome, isLarge });
    this.#change();
  }

  /** One request, to its end. */
  async #send(items: readonly Item[]): Promise<void> {
    const { clock } = this.#transport;
    const sentMs = clock.monotonicMs();
    const unanswered = new Map(items.map((item, at) => [at, item]));
    try {
      for await (const text of this.#answersTo(items)) {
        const line = readBatchLine(text);
        const item = unanswered.get(line.index);
        if (item === undefined) {
          if (line.problem !== undefined) throw errorFromProblem(line.problem);
          continue;
        }
        unanswered.delete(line.index);
        if (line.job === undefined) this.#refused(item, errorFromProblem(line.problem!));
        else if (hasEnded(line.job.state)) void this.#jobEnded(item, line.job, text);
        else {
          this.#badSinceMs = undefined;
          item.refusals = 0;
          const pauseMs = Math.max(0, shortestWaitMs - (clock.monotonicMs() - sentMs));
          this.#later(item, pauseMs);
        }
      }
      if (unanswered.size > 0) throw new ConnectionError(this.#transport.url, "the answer ended early");
    } catch (error) {
      this.#requestFailed([...unanswered.values()], error);
    }
  }

  async *#answersTo(items: readonly Item[]): AsyncGenerator<string, void, undefined> {
    const limitMs = waitSeconds * 1_000 + graceMs;
    const silence = timeLimit(this.#transport.clock, limitMs, this.#signal);
    const { url } = this.#transport;
    try {
      const response = await this.#transport.open({
        method: "POST",
        path,
        headers: { "content-type": "application/x-ndjson", prefer: `wait=${waitSeconds}` },
        body: items.map((item) => this.#lineOf(item)).join(""),
        signal: silence.signal,
        span: { name: "submit batch", facts: { "switchyard.jobs": items.length } },
      });
      if (response.body === null) return;
      yield* linesOf(response.body, silence.restart);
    } catch (error) {
      if (this.#signal.aborted) throw this.#signal.reason;
      if (error instanceof ClientError) throw error;
      throw new ConnectionError(url, silence.isOver() ? `nothing came for ${limitMs / 1000} s` : "the answer broke off", error);
    } finally {
      silence.release();
    }
  }

  #lineOf({ index, json, run }: Item): string {
    const key = run === 1 ? `${this.#plan.key}/${index}` : `${this.#plan.key}/${index}/${run}`;
    return `${json.slice(0, -1)},"idempotency_key":${JSON.stringify(key)}}\n`;
  }

  async #jobEnded(item: Item, view: JobView, text: string): Promise<void> {
    this.#badSinceMs = undefined;
    const { index } = item;
    const { id: jobId } = view;
    if (view.state !== "succeeded") return this.#end({ index, jobId, error: outcomeError(view) });
    if (view.result === undefined) return this.#fetchLarge(item, view);
    try {
      const job = memberText(text, "job");
      this.#end({ index, jobId, result: await this.#plan.read(view, job && memberText(job, "result")) });
    } catch (error) {
      if (error instanceof ClientError && !mayRetry(error)) this.#end({ index, jobId, error });
      else this.#fail(error);
    }
  }

  /** In its turn. What is held already may stay with the caller for so long that the server keeps this one no more. */
  async #fetchLarge(item: Item, view: JobView): Promise<void> {
    await this.#enterLarge();
    if (this.#isOver) return;
    const { index } = item;
    const { id: jobId } = view;
    try {
      this.#end({ index, jobId, result: await this.#plan.read(view, undefined) }, { isLarge: true });
    } catch (error) {
      this.#leaveLarge();
      if (this.#isOver) return;
      if (this.#mayRunAgain(item, error)) this.#later(item, 0);
      else if (error instanceof ClientError && !mayRetry(error)) this.#end({ index, jobId, error });
      else this.#fail(error);
    }
  }

  async #enterLarge(): Promise<void> {
    if (this.#large < mostLarge) this.#large++;
    else await new Promise<void>((resolve) => this.#largeTurns.push(resolve));
  }

  /** Hands the place on, if somebody waits for it. */
  #leaveLarge(): void {
    const next = this.#largeTurns.shift();
    if (next === undefined) this.#large--;
    else next();
  }

  /** Of a result that is no longer kept; under another key from now on. */
  #mayRunAgain(item: Item, error: unknown): boolean {
    if (!(error instanceof ClientError) || error.code !== "result_expired" || item.run >= mostRuns) return false;
    item.run++;
    return true;
  }

  #refused(item: Item, error: ClientError): void {
    const { index } = item;
    const { jobId } = error;
    if (this.#mayRunAgain(item, error)) this.#later(item, 0);
    else if (!mayRetry(error)) {
      this.#badSinceMs = undefined;
      this.#end({ index, jobId, error });
    } else if (this.#isHopeless(item, error)) this.#end({ index, jobId, error });
    else this.#again([item], error);
  }

  /** A deadline that was out of reach for as long as it gives. */
  #isHopeless(item: Item, error: ClientError): boolean {
    const nowMs = this.#transport.clock.monotonicMs();
    item.refusedSinceMs ??= nowMs;
    const { timeoutMs = Number.POSITIVE_INFINITY } = this.#plan;
    return error.code === "deadline_unattainable" && nowMs - item.refusedSinceMs >= timeoutMs;
  }

  #requestFailed(items: readonly Item[], error: unknown): void {
    if (this.#isOver) return;
    if (error instanceof ClientError && error.code === "payload_too_large") this.#tooLarge(items, error);
    else if (mayRetry(error)) this.#again(items, error);
    else this.#fail(error);
  }

  #tooLarge(items: readonly Item[], error: ClientError): void {
    if (items.length === 1) {
      this.#end({ index: items[0]!.index, jobId: undefined, error });
      return;
    }
    // by what was refused: several requests under way meet the same limit
    const bytes = items.reduce((sum, item) => sum + this.#lineOf(item).length, 0);
    this.#mostBytes = Math.max(1, Math.min(this.#mostBytes, Math.floor(bytes / 2)));
    for (const item of items) this.#later(item, 0);
  }

  /** Sends them again after a pause, unless this has gone on for too long. */
  #again(items: readonly Item[], error: ClientError): void {
    const { clock, retry } = this.#transport;
    let tries = 0;
    for (const item of items) tries = Math.max(tries, ++item.refusals);
    const pauseMs = retryDelayMs(retry, tries, clock.jitter(), error.retryAfterMs);
    this.#badSinceMs ??= clock.monotonicMs();
    if (clock.monotonicMs() + pauseMs - this.#badSinceMs >= retry.giveUpAfterMs) this.#fail(error);
    else for (const item of items) this.#later(item, pauseMs);
  }

  #later(item: Item, pauseMs: number): void {
    if (pauseMs <= 0) this.#put(item);
    else {
      void this.#transport.clock.sleep(pauseMs, this.#signal).then(() => {
        if (!this.#isOver) this.#put(item);
      });
    }
  }
}

/** Lines of a stream of text, without their ends. Leaving the loop closes the connection. */
async function* linesOf(body: ReadableStream<Uint8Array>, onPiece: () => void): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let parts: string[] = [];
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      onPiece();
      const pieces = decoder.decode(chunk.value, { stream: true }).split("\n");
      const last = pieces.pop()!;
      for (const piece of pieces) {
        parts.push(piece);
        const line = parts.join("");
        parts = [];
        if (line !== "") yield line;
      }
      parts.push(last);
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection is already gone, or closes now
  }
}
