/**
 * The client: what an application calls. Needs only fetch, so it runs in Node and in browsers alike. Holds no connection of its own and
 * needs no closing.
 */

import { defaultTimeoutMs, type JobClass } from "@switchyard/protocol";
import { timeLimit } from "./abort.ts";
import { type BatchLine, type BatchOutcome, runBatch } from "./batch-run.ts";
import { ClientError, TimeoutError } from "./client-errors.ts";
import { type Clock, systemClock } from "./clock.ts";
import { DeadLetterList } from "./dead-letters.ts";
import { type InferResult, readInferAnswer, readResultText, withTimings } from "./infer-answer.ts";
import {
  checkKey,
  checkOptions,
  encodeInfer,
  encodeJob,
  encodeJobLine,
  type InferOptions,
  type RequestBody,
  type SubmitOptions,
} from "./infer-call.ts";
import type { Inputs } from "./inputs.ts";
import { type CallOptions, JobHandle } from "./job-handle.ts";
import {
  type HostView,
  type JobView,
  type ModelStatistics,
  type ModelView,
  type Page,
  pathWith,
  readJobView,
  readObject,
  readPage,
  readStatistics,
  type TenantView,
} from "./job-records.ts";
import { ModelRepository } from "./model-repository.ts";
import { type RetryOptions, retryPolicy } from "./retry-policy.ts";
import { ToolServerList } from "./tool-servers.ts";
import type { ClientTracing } from "./tracing.ts";
import { Transport } from "./transport.ts";

export interface ClientOptions {
  /** Where coordinators listen. Several are tried in turn when one is away. Default: SWITCHYARD_URL (comma-separated), else http://127.0.0.1:8000. */
  url?: string | readonly string[] | undefined;
  /** Default: SWITCHYARD_API_KEY. */
  apiKey?: string | undefined;
  fetch?: typeof fetch;
  /** `false`: every call is tried once. */
  retry?: RetryOptions | false;
  clock?: Clock;
  /** Spans of `infer`, `submit` and `batch`, in the application's traces: see `switchyard/opentelemetry`. Default: none. */
  tracing?: ClientTracing | undefined;
}

export interface BatchOptions extends Omit<SubmitOptions, "idempotencyKey"> {
  model: string;
  /** Of the whole: the same items under the same key are the same jobs, so a batch that broke off goes on where it was. Default: a new one. */
  key?: string | undefined;
  /** Items that are under way at once, and held in memory. Default 1,000. */
  atOnce?: number | undefined;
}

/** What became of one item: its outputs, or why there are none. Without a job id it was refused. */
export type BatchAnswer = BatchOutcome<InferResult>;

export interface JobFilter {
  state?: string | undefined;
  model?: string | undefined;
  class?: JobClass | undefined;
  /** `key=value`, or a key that must be there. */
  tag?: string | undefined;
  /** RFC 3339. */
  createdAfter?: string | undefined;
  /** Jobs a page, 1 to 200. */
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** A try of a plain question may take this long. */
const answerMs = 10_000;
/** Time that the server gets to say itself that a deadline passed, before the client gives up by its own clock. */
const graceMs = 1_000;
/** A job outlives its submission, but a submission is not repeated for a whole day. */
const longestSubmitMs = 60_000;
const usualAtOnce = 1_000;
/** Room for the item's number. */
const maxBatchKeyChars = 200;
/** No try is held longer: runtimes and proxies give up at five minutes. A longer job is waited for by its key, try after try. */
const holdMs = 240_000;

export class Switchyard {
  readonly #transport: Transport;
  readonly jobs: JobList;
  readonly deadLetters: DeadLetterList;
  readonly repository: ModelRepository;
  readonly toolServers: ToolServerList;

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport({
      ...serverOf(options),
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
      retry: retryPolicy(options.retry),
      clock: options.clock ?? systemClock,
      tracing: options.tracing,
    });
    this.jobs = new JobList(this.#transport);
    this.deadLetters = new DeadLetterList(this.#transport);
    this.repository = new ModelRepository(this.#transport);
    this.toolServers = new ToolServerList(this.#transport);
  }

  /** The address in use. */
  get url(): string {
    return this.#transport.url;
  }

  /**
   * Runs a model and waits for its outputs. After a lost connection or a retryable refusal the same request is sent again within its
   * deadline, under one Idempotency-Key, so that the job of a try that did arrive is not run a second time by the tries after it. A job
   * that failed for now is handed in again twice at most.
   *
   * No try lasts longer than four minutes. Calls that say a longer `timeoutMs`, or class `batch`, carry the key from the first try on and
   * wait for their one job; others that turn out to be longer are begun again under a key, once.
   *
   * Throws ClientError (`model_not_found`, `invalid_request`, `run_failed`, `expired`, …), ConnectionError, TimeoutError when
   * `timeoutMs` is over and no server said so, or the reason of an aborted `signal`, which also cancels a job that has no key.
   */
  async infer(model: string, inputs: Inputs, options: InferOptions = {}): Promise<InferResult> {
    return readInferAnswer(await this.#infer(model, encodeInfer(inputs, options, { binaryOutputs: true }), options));
  }

  /** As `infer`, but answers the JSON body as the server wrote it: exact for 64-bit integers. FP16 outputs have no JSON form. */
  async inferText(model: string, inputs: Inputs, options: InferOptions = {}): Promise<string> {
    return (await this.#infer(model, encodeInfer(inputs, options, { binaryOutputs: false }), options)).text();
  }

  /** Hands a job over and returns as soon as it is recorded. Throws as `infer`, of what can be known before the run. */
  async submit(model: string, inputs: Inputs, options: SubmitOptions = {}): Promise<JobHandle> {
    return this.job((await this.submitText(model, inputs, options)).id);
  }

  /** As `submit`, but answers the id and the JSON as the server wrote it. */
  async submitText(model: string, inputs: Inputs, options: SubmitOptions = {}): Promise<{ id: string; text: string }> {
    options.signal?.throwIfAborted();
    const body = encodeJob(model, inputs, options);
    const span = { name: `submit ${model}`, facts: { "switchyard.model": model } };
    const tryMs = answerMs + body.body.length / 1_000;
    const call = { method: "POST", path: "/v1/jobs", ...body, signal: options.signal, tryMs, span } as const;
    const withinMs = Math.min(options.timeoutMs ?? longestSubmitMs, longestSubmitMs);
    const value = options.idempotencyKey ?? newKey();
    const key = { next: () => value, from: "first try" } as const;
    const answer = await this.#transport.send(call, { withinMs: this.#tryOnce() ? 0 : withinMs, key });
    const text = answer.text();
    return { id: readJobView(text).id, text };
  }

  /**
   * Runs one model on many items, and answers each as it ends, with its index; the order is that of the ends. Items are taken from the iterable as
   * others end, so there may be any number. Class `batch` unless another is given. An item that cannot be sent, is refused for good or fails
   * is answered with its `error`, and the others go on.
   *
   * Lost connections and refusals for now are repeated under one key for each item, so none is run twice because an answer was lost. Throws what no
   * repeating will change (a key without scope `submit`, …), ConnectionError or the last refusal after `giveUpAfterMs` without any
   * answer, or the reason of an aborted `signal`. Jobs that were sent go on; the same call with the same `key` finds them.
   */
  async *batch(items: AsyncIterable<Inputs> | Iterable<Inputs>, options: BatchOptions): AsyncGenerator<BatchAnswer, void, undefined> {
    const { model, key, atOnce, signal, ...given } = options;
    const terms: SubmitOptions = { class: "batch", ...given };
    checkOptions(terms);
    const read = (view: JobView, text: string | undefined): InferResult | Promise<InferResult> =>
      text === undefined ? this.job(view.id).result({ signal }) : withTimings(readResultText(text), view);
    const lines = linesFrom(items, (inputs) => encodeJobLine(model, inputs, terms));
    yield* runBatch(this.#transport, { ...this.#batchTerms({ key, atOnce }), lines, timeoutMs: terms.timeoutMs, signal, read });
  }

  /**
   * As `batch`, of jobs as JSON text, each an object with its `model` and without a key, and answers results as the server wrote them: exact for 64-bit
   * integers. Which index an item has, and so which key, says its line.
   */
  async *batchText(
    lines: AsyncIterable<BatchLine> | Iterable<BatchLine>,
    options: Pick<BatchOptions, "key" | "atOnce" | "timeoutMs" | "signal">,
  ): AsyncGenerator<BatchOutcome<string>, void, undefined> {
    const { key, atOnce, timeoutMs, signal } = options;
    const read = (view: JobView, text: string | undefined): string | Promise<string> => text ?? this.job(view.id).resultText({ signal });
    yield* runBatch(this.#transport, { ...this.#batchTerms({ key, atOnce }), lines, timeoutMs, signal, read });
  }

  #batchTerms({ key, atOnce = usualAtOnce }: Pick<BatchOptions, "key" | "atOnce">): { key: string; atOnce: number } {
    checkKey("key", key, maxBatchKeyChars);
    if (Number.isSafeInteger(atOnce) && atOnce > 0) return { key: key ?? newKey(), atOnce };
    throw new ClientError("invalid_request", `atOnce must be a positive whole number, got ${atOnce}`);
  }

  /** The handle of a job that exists already. Asks nothing. */
  job(id: string): JobHandle {
    return new JobHandle(this.#transport, id);
  }

  async hosts(options: CallOptions = {}): Promise<HostView[]> {
    return this.#all<HostView>("/v1/hosts", "a list of hosts", options);
  }

  /** Tenants with their weights, the ids of their API keys and what waits of theirs; for keys with scope `operate` or `admin`. */
  async tenants(options: CallOptions = {}): Promise<TenantView[]> {
    return this.#all<TenantView>("/v1/tenants", "a list of tenants", options);
  }

  /** What was counted of every model version that can be served: jobs, runs and their times since it has been there. */
  async statistics(options: CallOptions = {}): Promise<ModelStatistics[]> {
    return readStatistics(await this.#get("/v2/models/stats", options));
  }

  /** All versions of all models. */
  async models(options: CallOptions = {}): Promise<ModelView[]> {
    return this.#all<ModelView>("/v1/models", "a list of models", options);
  }

  /** One model; the version that calls without one get (of several most of them), unless one is named. Throws ClientError `model_not_found` or `version_not_found`. */
  async model(model: string, options: CallOptions & { version?: number | undefined } = {}): Promise<ModelView> {
    const { version } = options;
    const versions = await this.modelVersions(model, options);
    const wanted =
      version === undefined
        ? (versions.find((view) => view.default) ?? versions.find((view) => view.state !== "failed") ?? versions[0])
        : versions.find((view) => view.version === version);
    if (wanted !== undefined) return wanted;
    const why = version === undefined ? "no versions" : `no version ${version}; it has ${versions.map((view) => view.version).join(", ")}`;
    throw new ClientError("version_not_found", `model ${model} has ${why}`, { status: 404 });
  }

  /** All versions of one model, highest first. Throws ClientError `model_not_found`. */
  async modelVersions(model: string, options: CallOptions = {}): Promise<ModelView[]> {
    const body = readObject(await this.#get(`/v1/models/${encodeURIComponent(model)}`, options), "a model");
    const versions = (Array.isArray(body.items) ? body.items : [body]) as ModelView[];
    return versions.sort((a, b) => b.version - a.version);
  }

  async #infer(model: string, body: RequestBody, options: InferOptions) {
    options.signal?.throwIfAborted();
    const version = options.version === undefined ? "" : `/versions/${options.version}`;
    const path = `/v2/models/${encodeURIComponent(model)}${version}/infer`;
    const { clock } = this.#transport;
    const startedMs = clock.monotonicMs();
    const limit = timeLimit(clock, options.timeoutMs === undefined ? undefined : options.timeoutMs + graceMs, options.signal);
    const withinMs = options.timeoutMs ?? defaultTimeoutMs[options.class ?? "standard"];
    try {
      return await this.#transport.send(
        {
          method: "POST",
          path,
          ...body,
          signal: limit.signal,
          tryMs: holdMs,
          span: { name: `infer ${model}`, facts: { "switchyard.model": model } },
        },
        {
          withinMs: this.#tryOnce() ? 0 : withinMs,
          // a key from the start keeps the job's record for the whole retention, so it is for those who need it
          key: { next: newKey, from: withinMs > holdMs ? "first try" : "second try" },
          mayBeLong: true,
          headersNow: () =>
            deadlineHeader(options.timeoutMs === undefined ? undefined : options.timeoutMs - (clock.monotonicMs() - startedMs)),
        },
      );
    } catch (error) {
      if (!limit.isOver() || options.signal?.aborted) throw error;
      throw new TimeoutError(`${model} has not answered within ${options.timeoutMs} ms`);
    } finally {
      limit.release();
    }
  }

  #tryOnce(): boolean {
    return this.#transport.retry.giveUpAfterMs === 0;
  }

  async #get(path: string, options: CallOptions): Promise<string> {
    return (
      await this.#transport.send({ path, signal: options.signal, tryMs: answerMs }, { withinMs: this.#transport.retry.giveUpAfterMs })
    ).text();
  }

  async #all<Item>(path: string, what: string, options: CallOptions): Promise<Item[]> {
    const items: Item[] = [];
    for (let cursor: string | undefined, asked = false; !asked || cursor !== undefined; asked = true) {
      const page: Page<Item> = readPage<Item>(
        await this.#get(cursor === undefined ? path : `${path}?cursor=${encodeURIComponent(cursor)}`, options),
        what,
      );
      for (const item of page.items) items.push(item);
      cursor = page.cursor;
    }
    return items;
  }
}

/** The jobs that the server remembers. */
export class JobList {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One page, newest first; a page may be empty and still have a cursor, because filters look at a bounded number of jobs a request. */
  async list(filter: JobFilter = {}, options: CallOptions = {}): Promise<Page<JobView>> {
    const { createdAfter, ...rest } = filter;
    const call = { path: pathWith("/v1/jobs", { ...rest, created_after: createdAfter }), signal: options.signal, tryMs: answerMs };
    return readPage<JobView>(
      (await this.#transport.send(call, { withinMs: this.#transport.retry.giveUpAfterMs })).text(),
      "a list of jobs",
    );
  }

  /** All pages, one job after the other. */
  async *each(filter: JobFilter = {}, options: CallOptions = {}): AsyncGenerator<JobView, void, undefined> {
    let cursor = filter.cursor;
    do {
      const page = await this.list({ ...filter, cursor }, options);
      yield* page.items;
      cursor = page.cursor;
    } while (cursor !== undefined);
  }
}

/** An item that cannot be said is told apart, and the others go on. */
async function* linesFrom<Item>(
  items: AsyncIterable<Item> | Iterable<Item>,
  encode: (item: Item) => string,
): AsyncGenerator<BatchLine, void, undefined> {
  let index = 0;
  for await (const item of items) {
    let line: BatchLine;
    try {
      line = { index, json: encode(item) };
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      line = { index, error };
    }
    yield line;
    index++;
  }
}

function deadlineHeader(timeoutMs: number | undefined): Record<string, string> {
  return timeoutMs === undefined ? {} : { "x-request-timeout-ms": String(Math.max(1, Math.ceil(timeoutMs))) };
}

/** Which coordinators are meant, and with which key. Throws ClientError for an address that is none. */
export function serverOf({ url, apiKey }: Pick<ClientOptions, "url" | "apiKey">): { urls: string[]; apiKey: string | undefined } {
  const urls = addresses(url ?? environment("SWITCHYARD_URL") ?? "http://127.0.0.1:8000");
  return { urls, apiKey: apiKey ?? environment("SWITCHYARD_API_KEY") };
}

function addresses(given: string | readonly string[]): string[] {
  const urls = (typeof given === "string" ? given.split(",") : [...given])
    .map((url) => url.trim().replace(/\/+$/, ""))
    .filter((url) => url !== "");
  for (const url of urls) {
    if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
      throw new ClientError("invalid_request", `url must be an http:// or https:// address, got ${JSON.stringify(url)}`);
    }
  }
  if (urls.length === 0) throw new ClientError("invalid_request", "url must name at least one address");
  return urls;
}

/** 128 random bits; unlike crypto.randomUUID also there on plain http pages. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Browsers have no process. */
function environment(name: string): string | undefined {
  const value = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env?.[name];
  return value === "" ? undefined : value;
}
