/**
 * Requests over fetch: which server, with which key, how long, how often again. The only file that calls fetch.
 *
 * With several addresses it stays with one until that one fails, then moves to the next; any coordinator can answer for any job.
 */

import { timeLimit } from "./abort.ts";
import { ClientError, ConnectionError, errorFromAnswer } from "./client-errors.ts";
import type { Clock } from "./clock.ts";
import { furtherJobs, isFailedJob, mayRetry, type RetryPolicy, retryDelayMs } from "./retry-policy.ts";
import type { ClientTracing } from "./tracing.ts";

export interface TransportOptions {
  urls: readonly string[];
  apiKey: string | undefined;
  fetch: typeof fetch;
  retry: RetryPolicy;
  clock: Clock;
  /** Absent: nothing is traced. */
  tracing?: ClientTracing | undefined;
}

export interface Call {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  /** Path and query, from the server's root. */
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array | Blob | string;
  signal?: AbortSignal | undefined;
  /** How long one try may take until its answer begins, and then without another piece of it; when it is over, the server counts as away. */
  tryMs?: number;
  /** Names the span of the call; absent: it has none. */
  span?: { name: string; facts: Record<string, string | number | boolean> };
}

export interface Persistence {
  /** How long it may take altogether, pauses included. */
  withinMs: number;
  /** Sends one Idempotency-Key with every try, or from the second one on. `next` makes it, and another one after a job that failed. */
  key?: { next: () => string; from: "first try" | "second try" };
  /** A try that lasts its whole `tryMs` is no failure: the job may just be long, and the next try waits for it by its key. */
  mayBeLong?: boolean;
  /** Headers that depend on the time left. Asked for the first try of every new key or none: tries with one key must be equal. */
  headersNow?: () => Record<string, string>;
}

export interface Answer {
  status: number;
  headers: Headers;
  bytes: Uint8Array;
  text(): string;
}

/** A try's own time was over. */
class TryOver extends ConnectionError {}

export class Transport {
  readonly #options: TransportOptions;
  #current = 0;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  get clock(): Clock {
    return this.#options.clock;
  }

  get retry(): RetryPolicy {
    return this.#options.retry;
  }

  /** Where the next request goes. */
  get url(): string {
    return this.#options.urls[this.#current % this.#options.urls.length]!;
  }

  /** One try, body read whole. Throws ClientError for a status ≥ 400, ConnectionError without an answer, the signal's reason if aborted. */
  async once(call: Call): Promise<Answer> {
    const limit = timeLimit(this.clock, call.tryMs, call.signal);
    const url = this.url;
    try {
      const response = await this.#fetch(url, call, limit.signal);
      const bytes = await bytesOf(response, limit.restart);
      const text = (): string => new TextDecoder().decode(bytes);
      if (response.status >= 400) throw this.#refused(url, errorFromAnswer(response.status, response.headers, text()));
      return { status: response.status, headers: response.headers, bytes, text };
    } catch (error) {
      throw this.#failed(url, error, call, limit.isOver());
    } finally {
      limit.release();
    }
  }

  /** One try, body left unread; for streams. `call.tryMs` ends with the headers. */
  open(call: Call): Promise<Response> {
    return this.#traced(call, (traced) => this.#open(traced));
  }

  async #open(call: Call): Promise<Response> {
    const limit = timeLimit(this.clock, call.tryMs, call.signal);
    const url = this.url;
    try {
      const response = await this.#fetch(url, call, limit.signal);
      if (response.status >= 400) throw this.#refused(url, errorFromAnswer(response.status, response.headers, await response.text()));
      return response;
    } catch (error) {
      throw this.#failed(url, error, call, limit.isOver());
    } finally {
      limit.release();
    }
  }

  /** Tries until an answer, a refusal that will not change, or the end of the time. Throws as `once`. */
  send(call: Call, persistence: Persistence): Promise<Answer> {
    return this.#traced(call, (traced) => this.#send(traced, persistence));
  }

  async #traced<Got>(call: Call, run: (call: Call) => Promise<Got>): Promise<Got> {
    const span = call.span && this.#options.tracing?.begin(call.span.name, call.span.facts);
    if (span === undefined) return run(call);
    try {
      const got = await run({ ...call, headers: { ...call.headers, ...span.headers } });
      span.end();
      return got;
    } catch (error) {
      span.end(error);
      throw error;
    }
  }

  async #send(call: Call, persistence: Persistence): Promise<Answer> {
    const { clock, retry } = this.#options;
    const { key, withinMs } = persistence;
    let untilMs = clock.monotonicMs() + withinMs;
    const newRequest = (value: string | undefined): Record<string, string> => ({
      ...persistence.headersNow?.(),
      ...(value === undefined ? {} : { "idempotency-key": `"${value}"` }),
    });
    let isKeyed = key?.from === "first try";
    let own = newRequest(isKeyed ? key?.next() : undefined);
    let failedJobs = 0;
    for (let tries = 1; ; tries++) {
      const url = this.url;
      try {
        return await this.once({ ...call, headers: { ...call.headers, ...own } });
      } catch (error) {
        if (!mayRetry(error)) throw error;
        const failed = isFailedJob(error);
        if (failed && ++failedJobs > furtherJobs) throw error;
        const goesOn = persistence.mayBeLong === true && error instanceof TryOver && (isKeyed || withinMs > 0);
        if (goesOn) untilMs = Math.max(untilMs, clock.monotonicMs() + withinMs);
        if (key !== undefined && (!isKeyed || failed)) {
          isKeyed = true;
          own = newRequest(key.next());
        }
        if (goesOn) continue;
        const isElsewhere = this.url !== url;
        const pauseMs = retryDelayMs(retry, tries, clock.jitter(), isElsewhere ? undefined : error.retryAfterMs);
        if (clock.monotonicMs() + pauseMs >= untilMs) throw error;
        await this.pause(pauseMs, call.signal);
      }
    }
  }

  /** Waits; throws the signal's reason when it aborts. */
  async pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    await this.clock.sleep(ms, signal);
    signal?.throwIfAborted();
  }

  #fetch(url: string, call: Call, signal: AbortSignal | undefined): Promise<Response> {
    const headers: Record<string, string> = { ...call.headers };
    if (this.#options.apiKey !== undefined) headers.authorization = `Bearer ${this.#options.apiKey}`;
    const init: RequestInit = { method: call.method ?? "GET", headers, cache: "no-store" };
    if (call.body !== undefined) init.body = call.body as BodyInit;
    if (signal !== undefined) init.signal = signal;
    return this.#options.fetch(url + call.path, init);
  }

  #refused(url: string, error: ClientError): ClientError {
    if (error.code === "draining") this.#leave(url);
    return error;
  }

  #failed(url: string, error: unknown, call: Call, isOver: boolean): unknown {
    if (call.signal?.aborted) return call.signal.reason;
    if (error instanceof ClientError) return error;
    this.#leave(url);
    return isOver ? new TryOver(url, `no answer within ${call.tryMs} ms`, error) : new ConnectionError(url, reasonOf(error), error);
  }

  #leave(url: string): void {
    if (url === this.url) this.#current = (this.#current + 1) % this.#options.urls.length;
  }
}

/** The whole body. A large one on a slow line takes as long as it takes, while pieces of it come. */
async function bytesOf(response: Response, onPiece: () => void): Promise<Uint8Array> {
  const { body } = response;
  // some runtimes' fetch has no streams
  if (typeof body?.getReader !== "function") return new Uint8Array(await response.arrayBuffer());
  const pieces: Uint8Array[] = [];
  const reader = body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    onPiece();
    pieces.push(piece.value);
  }
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** fetch says only "fetch failed"; what helps is in its causes. */
function reasonOf(error: unknown): string {
  let reason = "the connection failed";
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    const code = "code" in cause && typeof cause.code === "string" ? cause.code : undefined;
    reason = code ?? (cause.message !== "" ? cause.message : reason);
  }
  return reason;
}
