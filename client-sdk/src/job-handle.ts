/**
 * A job by its id. The handle holds no connection and no state: it can be made again from the id at any time, in any process, and it
 * goes on by itself when coordinators restart.
 */

import { timeLimit } from "./abort.ts";
import { ClientError, TimeoutError } from "./client-errors.ts";
import { type InferResult, readInferAnswer, withTimings } from "./infer-answer.ts";
import { type EventOptions, type JobEvent, jobEvents } from "./job-events.ts";
import { hasEnded, type JobView, readJobView } from "./job-records.ts";
import { mayRetry, retryDelayMs } from "./retry-policy.ts";
import type { Answer, Call, Transport } from "./transport.ts";

export interface WaitOptions {
  /** Ends the waiting, not the job; cancel() does that. */
  signal?: AbortSignal | undefined;
  /** How long to wait; default: until the job ends, which its own deadline bounds. */
  timeoutMs?: number | undefined;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/** One long poll; the server takes whole seconds up to 60. */
const pollSeconds = 25;
const answerMs = 10_000;
/** A server that answers a long poll sooner than this without news is asked again no faster. */
const shortestPollMs = 100;

export class JobHandle {
  readonly id: string;
  readonly #transport: Transport;

  constructor(transport: Transport, id: string) {
    this.#transport = transport;
    this.id = id;
  }

  /** The job as it stands. Throws ClientError `job_not_found`, or `result_expired` after its retention. */
  async status(options: CallOptions = {}): Promise<JobView> {
    return readJobView(await this.statusText(options));
  }

  /** As `status`, but answers the JSON as the server wrote it. */
  async statusText(options: CallOptions = {}): Promise<string> {
    return (await this.#ask({ path: this.#path(), signal: options.signal })).text();
  }

  /** What coordinators and hosts say of the job, line by line, as the JSON that the server wrote. */
  async logText(options: CallOptions = {}): Promise<string> {
    return (await this.#ask({ path: this.#path("/log"), signal: options.signal })).text();
  }

  /** Waits for the end, whatever it is. Throws TimeoutError when `timeoutMs` is over first. */
  async finished(options: WaitOptions = {}): Promise<JobView> {
    return this.#within(options, (signal) => this.#poll(signal));
  }

  /**
   * Waits for the outputs. A job that failed, was cancelled or expired throws ClientError with the job's own error code
   * (`run_failed`, `cancelled`, `expired`, …); TimeoutError when `timeoutMs` is over first.
   */
  async result(options: WaitOptions = {}): Promise<InferResult> {
    return this.#within(options, async (signal) => {
      const view = await this.#poll(signal);
      if (view.state !== "succeeded") throw outcomeError(view);
      const answer = await this.#ask({ path: this.#path("/result"), headers: { accept: "application/octet-stream" }, signal });
      return withTimings(readInferAnswer(answer), view);
    });
  }

  /** The answer's JSON as the server wrote it: exact for 64-bit integers. FP16 outputs have no JSON form. */
  async resultText(options: CallOptions = {}): Promise<string> {
    return (await this.#ask({ path: this.#path("/result"), headers: { accept: "application/json" }, signal: options.signal })).text();
  }

  /** States as they change, from the current one to the last. Survives reconnects without gap or repeat. */
  events(options: EventOptions = {}): AsyncIterableIterator<JobEvent> {
    return jobEvents(this.#transport, this.id, options);
  }

  /** Asks the server to cancel. Throws ClientError `job_already_ended` when the job had ended otherwise. */
  async cancel(options: CallOptions = {}): Promise<JobView> {
    return readJobView(await this.cancelText(options));
  }

  /** As `cancel`, but answers the JSON as the server wrote it. */
  async cancelText(options: CallOptions = {}): Promise<string> {
    return (await this.#ask({ method: "DELETE", path: this.#path(), signal: options.signal })).text();
  }

  /**
   * Submits the job again, as a new one with the same inputs and terms; asked twice, it is the same new job. Only for jobs that failed and whose
   * inputs are kept: throws ClientError `inputs_expired`, `job_not_finished`, `job_already_ended`, and what a submission throws.
   */
  async retry(options: CallOptions = {}): Promise<JobHandle> {
    return new JobHandle(this.#transport, readJobView(await this.retryText(options)).id);
  }

  /** As `retry`, but answers the new job's JSON as the server wrote it. */
  async retryText(options: CallOptions = {}): Promise<string> {
    return (await this.#ask({ method: "POST", path: this.#path("/retry"), signal: options.signal })).text();
  }

  #path(rest = ""): string {
    return `/v1/jobs/${encodeURIComponent(this.id)}${rest}`;
  }

  #ask(call: Call): Promise<Answer> {
    return this.#transport.send({ tryMs: answerMs, ...call }, { withinMs: this.#transport.retry.giveUpAfterMs });
  }

  /** Long polls, reconnecting for as long as the server is not away for the retry policy's whole time. */
  async #poll(signal: AbortSignal | undefined): Promise<JobView> {
    const { clock, retry } = this.#transport;
    let failures = 0;
    let awaySinceMs: number | undefined;
    for (;;) {
      const startedMs = clock.monotonicMs();
      try {
        const tryMs = pollSeconds * 1000 + answerMs;
        const answer = await this.#transport.once({ path: this.#path(`?wait=${pollSeconds}`), signal, tryMs });
        const view = readJobView(answer.text());
        if (hasEnded(view.state)) return view;
        failures = 0;
        awaySinceMs = undefined;
        const tookMs = clock.monotonicMs() - startedMs;
        if (tookMs < shortestPollMs) await this.#transport.pause(shortestPollMs - tookMs, signal);
      } catch (error) {
        if (!mayRetry(error)) throw error;
        failures++;
        awaySinceMs ??= clock.monotonicMs();
        const pauseMs = retryDelayMs(retry, failures, clock.jitter(), error.retryAfterMs);
        if (clock.monotonicMs() + pauseMs - awaySinceMs >= retry.giveUpAfterMs) throw error;
        await this.#transport.pause(pauseMs, signal);
      }
    }
  }

  async #within<T>(options: WaitOptions, run: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
    options.signal?.throwIfAborted();
    const limit = timeLimit(this.#transport.clock, options.timeoutMs, options.signal);
    try {
      return await run(limit.signal);
    } catch (error) {
      if (!limit.isOver() || options.signal?.aborted) throw error;
      throw new TimeoutError(`job ${this.id} has not ended within ${options.timeoutMs} ms; it goes on, and its id still finds it`, {
        jobId: this.id,
      });
    } finally {
      limit.release();
    }
  }
}

/** Why a job has no result, as an error. */
export function outcomeError(view: JobView): ClientError {
  const code = view.error?.code ?? (view.state === "failed" ? "run_failed" : view.state);
  const detail = view.error?.detail ?? `job ${view.id} is ${view.state}`;
  return new ClientError(code, detail, { jobId: view.id, ...(view.error === undefined ? {} : { retryable: view.error.retryable }) });
}
