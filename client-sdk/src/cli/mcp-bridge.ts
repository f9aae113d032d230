/**
 * The Model Context Protocol on standard input and output, handed on to a coordinator's /mcp: one line is one message, one message one request.
 * It answers nothing itself but what cannot be handed on. Loaded by `switchyard mcp` alone; the only file of this package that knows the
 * protocol's library.
 *
 * Requests that carry the protocol's version (2026-07-28) stand for themselves. Those before it live in a session, which is begun anew when the
 * coordinator no longer knows it, because a client on standard input cannot know that there is one.
 */

import type { Readable, Writable } from "node:stream";
import {
  type JSONRPCMessage,
  type JSONRPCNotification,
  type JSONRPCRequest,
  type JSONRPCResponse,
  PROTOCOL_VERSION_META_KEY,
  parseJSONRPCMessage,
  type RequestId,
  SdkHttpError,
  StreamableHTTPClientTransport,
  SUBSCRIPTION_ID_META_KEY,
} from "@modelcontextprotocol/client";
import { isErrorCode } from "@switchyard/protocol";
import { ConnectionError, errorFromAnswer } from "../client-errors.ts";
import type { Clock } from "../clock.ts";
import { type RetryPolicy, retryDelayMs } from "../retry-policy.ts";
import { explain } from "./exit-codes.ts";
import { inputLines } from "./input-lines.ts";
import { declaredHeaders, paramHeaders } from "./mcp-param-headers.ts";

export interface BridgeOptions {
  /** Where coordinators listen; with several, the next one is taken when one is away. */
  urls: readonly string[];
  /** Of every request. */
  headers: Readonly<Record<string, string>>;
  input: Readable;
  output: Writable;
  /** One line for the log. */
  note: (text: string) => void;
  clock: Clock;
  /** Ends it as the end of the input does, without waiting for what is under way. */
  signal: AbortSignal;
  /** How long a request waits for a coordinator that is away before it is answered with an error. */
  patienceMs?: number;
}

/** The largest body of a coordinator's default, 64 MiB, as base64, and its envelope. */
const mostLineBytes = 96 * 1024 * 1024;
/** What was asked before the input ended is answered, if that takes no longer. */
const lastAnswersMs = 5_000;
/** A session that cannot be ended within this time ends by itself, later. */
const farewellMs = 2_000;
/** A coordinator that died is back after some seconds. */
const usualPatienceMs = 10_000;
const pauses: RetryPolicy = { minDelayMs: 100, maxDelayMs: 5_000, giveUpAfterMs: 0 };
const mostToolPages = 100;

const invalidRequest = -32600;
const parseError = -32700;
const internalError = -32603;
const headerMismatch = -32020;
/** As servers of the era before mostly answer for a session that they do not know, with 404. */
const sessionNotFound = -32001;

/** Serves until the input ends or the signal aborts. Throws nothing: what goes wrong is an answer or a note. */
export async function bridge(options: BridgeOptions): Promise<void> {
  await new Bridge(options).run();
}

/** An answer that will not come, and whether the request can have been carried out. */
class Unanswered extends Error {
  readonly kind: "not sent" | "lost" | "no session" | "refused";

  constructor(kind: Unanswered["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}

interface LegEvents {
  /** What is no answer to a request of this leg. */
  heard: (message: JSONRPCMessage) => void;
  /** A stream of the session's own, between requests, failed. */
  failed: (error: Unanswered) => void;
}

interface Waiting {
  resolve: (answer: JSONRPCResponse) => void;
  reject: (error: Error) => void;
  /** Of the last event of its stream, from where the transport takes up one that broke. */
  lastEventId?: string;
  /** Of a stream that could not be taken up so far: keeps it from being given up. */
  keep?: () => void;
}

/** The way to one coordinator: alone for itself, or within a session once `initialize` was asked on it. */
class Leg {
  readonly url: string;
  readonly #transport: StreamableHTTPClientTransport;
  readonly #options: Pick<BridgeOptions, "headers" | "clock" | "patienceMs">;
  readonly #waiting = new Map<RequestId, Waiting>();

  constructor(url: string, options: Pick<BridgeOptions, "headers" | "clock" | "patienceMs">, events: LegEvents) {
    this.url = url;
    this.#options = options;
    const endpoint = new URL(url.endsWith("/mcp") ? url : `${url}/mcp`);
    this.#transport = new StreamableHTTPClientTransport(endpoint, {
      requestInit: { headers: { ...options.headers } },
      fetch: (at, init) => this.#fetch(at, init),
      reconnectionOptions: {
        initialReconnectionDelay: 200,
        reconnectionDelayGrowFactor: 2,
        maxReconnectionDelay: pauses.maxDelayMs,
        maxRetries: Number.POSITIVE_INFINITY,
      },
    });
    this.#transport.onmessage = (message) => {
      const waiting = isAnswer(message) && message.id !== undefined ? this.#waiting.get(message.id) : undefined;
      if (waiting === undefined) events.heard(message);
      else waiting.resolve(message as JSONRPCResponse);
    };
    this.#transport.onerror = (error) => events.failed(this.#reasonOf(error));
    void this.#transport.start();
  }

  get hasSession(): boolean {
    return this.#transport.sessionId !== undefined;
  }

  set version(version: string) {
    this.#transport.setProtocolVersion(version);
  }

  /** Throws Unanswered, or the signal's reason. An aborted signal closes the request's stream, which cancels it. */
  async ask(request: JSONRPCRequest, options: { signal: AbortSignal; headers?: Record<string, string> }): Promise<JSONRPCResponse> {
    const { promise, resolve, reject } = Promise.withResolvers<JSONRPCResponse>();
    const abort = (): void => reject(options.signal.reason);
    options.signal.throwIfAborted();
    const waiting: Waiting = { resolve, reject };
    this.#waiting.set(request.id, waiting);
    const onresumptiontoken = (token: string): void => {
      waiting.lastEventId = token;
    };
    options.signal.addEventListener("abort", abort, { once: true });
    const onRequestStreamEnd = (): void => reject(new Unanswered("lost", `the connection to ${this.url} ended before the answer came`));
    this.#transport
      .send(request, {
        requestSignal: options.signal,
        onRequestStreamEnd,
        onresumptiontoken,
        ...(options.headers && { headers: options.headers }),
      })
      .catch((error: unknown) => reject(this.#reasonOf(error)));
    try {
      return await promise;
    } finally {
      options.signal.removeEventListener("abort", abort);
      waiting.keep?.();
      this.#waiting.delete(request.id);
    }
  }

  /** Nobody else would end the wait for a stream that broke and that nobody is there to go on with: the transport tries for ever. */
  async #fetch(url: string | URL, init?: RequestInit): Promise<Response> {
    const lastEventId = new Headers(init?.headers).get("last-event-id");
    const waiting = lastEventId === null ? undefined : [...this.#waiting.values()].find((one) => one.lastEventId === lastEventId);
    try {
      const response = await fetchAnswers(url, init);
      if (isAway(response.status)) this.#doubt(waiting);
      else waiting?.keep?.();
      return response;
    } catch (error) {
      this.#doubt(waiting);
      throw error;
    }
  }

  #doubt(waiting: Waiting | undefined): void {
    if (waiting === undefined || waiting.keep !== undefined) return;
    const { clock, patienceMs = usualPatienceMs } = this.#options;
    const giveUp = (): void =>
      waiting.reject(
        new Unanswered("lost", `the connection to ${this.url} broke before the answer came, and nobody answers there any more`),
      );
    const stop = clock.after(patienceMs, giveUp);
    waiting.keep = () => {
      stop();
      delete waiting.keep;
    };
  }

  /** What has no answer. Throws Unanswered. */
  async tell(message: JSONRPCMessage): Promise<void> {
    try {
      await this.#transport.send(message);
    } catch (error) {
      throw this.#reasonOf(error);
    }
  }

  /** Ends the session there, if there is one. */
  async farewell(): Promise<void> {
    await this.#transport.terminateSession().catch(() => {}); // it ends by itself, then
  }

  /** Closes all streams; requests that still wait are lost. */
  async close(): Promise<void> {
    const waiting = [...this.#waiting.values()];
    await this.#transport.close();
    for (const { reject } of waiting) reject(new Unanswered("lost", `the session at ${this.url} ended before the answer came`));
  }

  #reasonOf(error: unknown): Unanswered {
    if (error instanceof Unanswered) return error;
    if (error instanceof SdkHttpError) {
      if (error.status === 404 && this.hasSession) return new Unanswered("no session", `${this.url} knows this session no longer`);
      const answer = errorFromAnswer(error.status, new Headers(), bodyOf(error));
      return new Unanswered(kindOf(error), explain(answer));
    }
    const [code, message] = causeOf(error);
    const away = new ConnectionError(this.url, code ?? message);
    return new Unanswered(code !== undefined && neverSent.has(code) ? "not sent" : "lost", explain(away));
  }
}

/** Codes of failures that come before a request is on its way. */
const neverSent: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/**
 * An answer is one whatever the status: the protocol's errors come with 400, 404 and others, and the client is to see them as they are. But not
 * that its session is gone: it knows of none.
 */
async function fetchAnswers(url: string | URL, init?: RequestInit): Promise<Response> {
  const response = await fetch(url, init);
  if (response.ok || !(response.headers.get("content-type") ?? "").startsWith("application/json")) return response;
  const text = await response.text();
  const { status, statusText, headers } = response;
  const code = codeOfAnswer(text);
  if (code === undefined || code === sessionNotFound) return new Response(text, { status, statusText, headers });
  return new Response(text, { status: 200, headers: { "content-type": "application/json" } });
}

/** Of an error that says which request it answers. */
function codeOfAnswer(text: string): number | undefined {
  try {
    const message = parseJSONRPCMessage(JSON.parse(text));
    return "error" in message && (message.id ?? undefined) !== undefined ? message.error.code : undefined;
  } catch {
    return undefined;
  }
}

/** A coordinator that says why it cannot be asked has done nothing; of what somebody between here and there answers, nobody knows. */
function kindOf(error: SdkHttpError): Unanswered["kind"] {
  if (!isAway(error.status)) return "refused";
  return error.status === 503 && isOurs(String(error.data.text ?? "")) ? "not sent" : "lost";
}

const isAway = (status: number): boolean => status === 502 || status === 503 || status === 504;

/** Whether the body is a problem, or an error of JSON-RPC, with a code of the error table. */
function isOurs(text: string): boolean {
  try {
    const body = JSON.parse(text) as { code?: unknown; error?: { data?: { code?: unknown } } };
    const code = body.code ?? body.error?.data?.code;
    return typeof code === "string" && isErrorCode(code);
  } catch {
    return false;
  }
}

/** What the body of a refusal says, with JSON-RPC's errors in the form that the SDK reads. */
function bodyOf(error: SdkHttpError): string {
  const text = String(error.data.text ?? "");
  try {
    const body = JSON.parse(text) as { error?: { message?: unknown } };
    return typeof body.error?.message === "string" ? JSON.stringify({ error: body.error.message }) : text;
  } catch {
    return text;
  }
}

/** fetch says only "fetch failed"; what helps is in its causes. */
function causeOf(error: unknown): [code: string | undefined, message: string] {
  let message = String(error);
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && typeof cause.code === "string") return [cause.code, cause.message];
    message = cause.message;
  }
  return [undefined, message];
}

const isAnswer = (message: JSONRPCMessage): message is JSONRPCResponse => !("method" in message);
const isRequest = (message: JSONRPCMessage): message is JSONRPCRequest => "method" in message && "id" in message;
const isModern = (request: JSONRPCRequest): boolean => typeof request.params?._meta?.[PROTOCOL_VERSION_META_KEY] === "string";
/** Its session was the client's idea. */
const isOpening = (request: JSONRPCRequest): boolean => request.method === "initialize" && !isModern(request);

interface Session {
  leg: Leg;
  initialize: JSONRPCRequest;
  /** What was asked within it and is asked again when it is begun anew, by method and subject. */
  settings: Map<string, JSONRPCRequest>;
  isLost: boolean;
}

interface Question {
  request: JSONRPCRequest;
  stop: AbortController;
  done: Promise<void>;
  /** A subscription that was acknowledged: it lasts until the client ends it, whatever becomes of the coordinator. */
  isLasting: boolean;
}

class Bridge {
  readonly #options: BridgeOptions;
  readonly #alone = new Map<string, Leg>();
  readonly #questions = new Map<RequestId, Question>();
  readonly #toolHeaders = new Map<string, ReturnType<typeof declaredHeaders>>();
  readonly #ended = new AbortController();
  #session: Session | undefined;
  #renewal: Promise<void> | undefined;
  #perseverance: Promise<void> | undefined;
  #current = 0;
  #ownRequests = 0;
  #isAway = false;

  constructor(options: BridgeOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { input, signal, clock } = this.#options;
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([this.#read(), stopped]);
    if (signal.aborted) input.destroy();
    const underWay = [...this.#questions.values()].filter(({ isLasting }) => !isLasting).map(({ done }) => done);
    const enough = new AbortController();
    await Promise.race([Promise.all(underWay), stopped, clock.sleep(lastAnswersMs, enough.signal)]);
    this.#ended.abort();
    for (const { stop } of this.#questions.values()) stop.abort();
    const { leg } = this.#session ?? {};
    if (leg !== undefined) await Promise.race([leg.farewell(), clock.sleep(farewellMs, enough.signal)]);
    enough.abort();
    for (const each of [...this.#alone.values(), ...(leg === undefined ? [] : [leg])]) await each.close();
  }

  async #read(): Promise<void> {
    try {
      for await (const line of inputLines(this.#options.input, { mostBytes: mostLineBytes })) {
        const message =
          line === undefined ? this.#refuse(parseError, `a message may have ${mostLineBytes} bytes at most`) : this.#parse(line);
        if (message !== undefined) await this.#take(message);
      }
    } catch (error) {
      if (!this.#options.signal.aborted) this.#options.note(`standard input failed: ${String(error)}`);
    }
  }

  #parse(line: string): JSONRPCMessage | undefined {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      return this.#refuse(parseError, `a line is no JSON: ${(error as Error).message}`);
    }
    try {
      return parseJSONRPCMessage(value);
    } catch {
      const given = (value as { id?: unknown } | null)?.id;
      const id = typeof given === "string" || typeof given === "number" ? given : undefined;
      const got = Array.isArray(value) ? "a batch, which the protocol no longer has" : "something else";
      return this.#refuse(invalidRequest, `a line must be one JSON-RPC 2.0 message, got ${got}`, id);
    }
  }

  /** Resolves when the next message may be looked at: only what begins a session keeps others waiting. */
  async #take(message: JSONRPCMessage): Promise<void> {
    if (isRequest(message)) {
      if (this.#questions.has(message.id)) {
        this.#refuse(invalidRequest, "a request with this id is under way", message.id);
        return;
      }
      const stop = new AbortController();
      const question: Question = { request: message, stop, isLasting: false, done: Promise.resolve() };
      this.#questions.set(message.id, question);
      question.done = this.#answer(question);
      if (isOpening(message)) await question.done;
      return;
    }
    const isNotification = !isAnswer(message);
    if (isNotification && message.method === "notifications/cancelled") return this.#cancel(message);
    const told = this.#tell(message);
    if (isNotification && message.method === "notifications/initialized") await told;
  }

  async #answer(question: Question): Promise<void> {
    const { request, stop } = question;
    try {
      const answer = await this.#persist(question);
      if (!stop.signal.aborted) this.#write(answer);
    } catch (error) {
      if (stop.signal.aborted) return;
      const { message } = error as Error;
      this.#options.note(`${request.method}: ${message}`);
      const code = error instanceof Unanswered && error.kind === "refused" ? invalidRequest : internalError;
      this.#refuse(code, message, request.id);
    } finally {
      if (this.#questions.get(request.id) === question) this.#questions.delete(request.id);
    }
  }

  /** Asks until there is an answer, or nothing but an error to be told. */
  async #persist(question: Question): Promise<JSONRPCResponse> {
    const { clock, patienceMs = usualPatienceMs } = this.#options;
    const { request, stop } = question;
    const untilMs = clock.monotonicMs() + patienceMs;
    let hasListed = false;
    for (let tries = 1; ; tries++) {
      let leg: Leg | undefined;
      try {
        leg = await this.#legFor(request);
        const answer = await leg.ask(request, { signal: stop.signal, headers: this.#headersOf(request) });
        this.#reached();
        if (isHeaderMismatch(answer) && request.method === "tools/call" && !hasListed) {
          hasListed = true;
          await this.#listTools(leg, question);
          continue;
        }
        this.#learn(request, answer, leg);
        return answer;
      } catch (error) {
        if (isOpening(request)) await leg?.close();
        if (stop.signal.aborted || !(error instanceof Unanswered) || error.kind === "refused") throw error;
        if (error.kind === "lost" && request.method === "tools/call")
          throw new Unanswered("lost", `${error.message}; the call may have been carried out`);
        this.#troubled(leg, error);
        if (error.kind === "no session" && tries === 1) continue;
        const pauseMs = retryDelayMs(pauses, tries, clock.jitter());
        if (!question.isLasting && clock.monotonicMs() + pauseMs >= untilMs) throw error;
        await clock.sleep(pauseMs, stop.signal);
      }
    }
  }

  async #legFor(request: JSONRPCRequest): Promise<Leg> {
    if (isOpening(request)) return this.#newLeg();
    if (isModern(request) || this.#session === undefined) {
      const leg = this.#alone.get(this.#url) ?? this.#newLeg();
      this.#alone.set(this.#url, leg);
      return leg;
    }
    if (this.#session.isLost) await this.#renew(this.#session);
    return this.#session.leg;
  }

  get #url(): string {
    return this.#options.urls[this.#current % this.#options.urls.length]!;
  }

  #newLeg(): Leg {
    const leg: Leg = new Leg(this.#url, this.#options, {
      heard: (message) => this.#heard(message),
      failed: (error) => {
        if (leg !== this.#session?.leg || error.kind === "lost") return;
        this.#troubled(leg, error);
        if (this.#session.isLost) this.#perseverance ??= this.#renewInTime(this.#session);
      },
    });
    return leg;
  }

  /** What the coordinator says by itself. */
  #heard(message: JSONRPCMessage): void {
    if ("method" in message && message.method === "notifications/subscriptions/acknowledged") {
      const question = this.#questions.get(message.params?._meta?.[SUBSCRIPTION_ID_META_KEY] as RequestId);
      if (question?.isLasting) {
        // opened again after an interruption, in which anything may have changed
        for (const change of changesOf(message.params?.notifications)) this.#write(withMeta(change, message.params?._meta));
        return;
      }
      if (question !== undefined) question.isLasting = true;
    }
    if (!isAnswer(message)) this.#write(message);
  }

  /** What an answer tells about later requests. */
  #learn(request: JSONRPCRequest, answer: JSONRPCResponse, leg: Leg): void {
    if (!("result" in answer)) {
      if (isOpening(request)) void leg.close();
      return;
    }
    if (isOpening(request)) {
      const former = this.#session?.leg;
      leg.version = String(answer.result.protocolVersion);
      this.#session = { leg, initialize: request, settings: new Map(), isLost: false };
      if (former !== undefined) void former.farewell().then(() => former.close());
    } else if (request.method === "tools/list") this.#learnTools(answer.result.tools);
    else if (!isModern(request)) keepSetting(this.#session?.settings, request);
  }

  #learnTools(tools: unknown): void {
    for (const tool of Array.isArray(tools) ? (tools as { name: string; inputSchema?: unknown }[]) : [])
      this.#toolHeaders.set(tool.name, declaredHeaders(tool.inputSchema));
  }

  #headersOf(request: JSONRPCRequest): Record<string, string> {
    const declared = request.method === "tools/call" && isModern(request) ? this.#toolHeaders.get(String(request.params?.name)) : undefined;
    return declared === undefined ? {} : paramHeaders(declared, request.params?.arguments);
  }

  /** For a call of a tool that the client has not listed, or not as it is now. */
  async #listTools(leg: Leg, { request, stop }: Question): Promise<void> {
    let cursor: unknown;
    for (let page = 0; page < mostToolPages; page++) {
      const params = { _meta: request.params!._meta!, ...(cursor !== undefined && { cursor: cursor as string }) };
      const answer = await leg.ask(this.#ownRequest("tools/list", params), { signal: stop.signal });
      if (!("result" in answer)) return;
      this.#learnTools(answer.result.tools);
      cursor = answer.result.nextCursor;
      if (cursor === undefined) return;
    }
  }

  #ownRequest(method: string, params: JSONRPCRequest["params"]): JSONRPCRequest {
    this.#ownRequests++;
    return { jsonrpc: "2.0", id: `switchyard-mcp-${this.#ownRequests}`, method, ...(params !== undefined && { params }) };
  }

  #cancel(notification: JSONRPCNotification): void {
    const question = this.#questions.get(notification.params?.requestId as RequestId);
    if (question === undefined) return;
    // no answer from now on, whatever still comes
    this.#questions.delete(question.request.id);
    const told = isModern(question.request) ? Promise.resolve() : this.#tell(notification);
    void told.then(() => question.stop.abort());
  }

  async #tell(message: JSONRPCMessage): Promise<void> {
    const { leg } = this.#session ?? {};
    if (leg === undefined) return;
    await leg
      .tell(message)
      .catch((error: Unanswered) => this.#options.note(`${"method" in message ? message.method : "answer"}: ${error.message}`));
  }

  /** One begins it anew, and the others wait for that. Throws Unanswered. */
  #renew(session: Session): Promise<void> {
    this.#renewal ??= this.#beginAgain(session).finally(() => {
      this.#renewal = undefined;
    });
    return this.#renewal;
  }

  /** Nobody asks at the moment, but a session is also where the coordinator speaks by itself. Throws nothing. */
  async #renewInTime(session: Session): Promise<void> {
    const { clock, note } = this.#options;
    for (let tries = 1; this.#session === session && !this.#ended.signal.aborted; tries++) {
      try {
        await this.#renew(session);
      } catch (error) {
        if (!(error instanceof Unanswered) || error.kind === "refused") {
          if (!this.#ended.signal.aborted) note((error as Error).message);
          break;
        }
        this.#troubled(undefined, error);
        await clock.sleep(retryDelayMs(pauses, tries, clock.jitter()), this.#ended.signal);
      }
    }
    this.#perseverance = undefined;
  }

  async #beginAgain({ leg: lost, initialize, settings }: Session): Promise<void> {
    const { signal } = this.#ended;
    const leg = this.#newLeg();
    try {
      const answer = await leg.ask(this.#ownRequest("initialize", initialize.params), { signal });
      if (!("result" in answer)) throw new Unanswered("refused", `a new session was refused: ${answer.error.message}`);
      leg.version = String(answer.result.protocolVersion);
      await leg.tell({ jsonrpc: "2.0", method: "notifications/initialized" });
      for (const { method, params } of settings.values()) await leg.ask(this.#ownRequest(method, params), { signal });
    } catch (error) {
      await leg.close();
      throw error;
    }
    this.#session = { leg, initialize, settings, isLost: false };
    this.#reached();
    this.#options.note(`a new session at ${leg.url}`);
    await lost.close();
    // what changed meanwhile was told to nobody
    for (const change of changesOf({
      toolsListChanged: true,
      promptsListChanged: true,
      resourcesListChanged: true,
      resourceSubscriptions: urisOf(settings),
    }))
      this.#write(change);
  }

  #troubled(leg: Leg | undefined, error: Unanswered): void {
    const session = this.#session;
    const isSessions = leg !== undefined && leg === session?.leg;
    if (error.kind === "no session" && isSessions) session!.isLost = true;
    if (error.kind !== "not sent" && error.kind !== "lost") return;
    if (error.kind === "not sent" && !this.#isAway) {
      this.#isAway = true;
      this.#options.note(`${error.message} (trying again)`);
    }
    if (this.#options.urls.length === 1) return;
    if (isSessions) session!.isLost = true;
    if (leg === undefined || leg.url === this.#url) this.#current++; // unless another request has moved on already
  }

  #reached(): void {
    if (this.#isAway) this.#options.note(`${this.#url} answers again`);
    this.#isAway = false;
  }

  #refuse(code: number, message: string, id?: RequestId): undefined {
    const data = { urls: this.#options.urls };
    // JSON-RPC wants an id in every answer; where none can be known it is null, which the library's types leave out
    this.#write({ jsonrpc: "2.0", id: id ?? null, error: { code, message, ...(code === internalError && { data }) } });
    return undefined;
  }

  #write(message: object): void {
    this.#options.output.write(`${JSON.stringify(message)}\n`);
  }
}

function isHeaderMismatch(answer: JSONRPCResponse): boolean {
  return "error" in answer && answer.error.code === headerMismatch;
}

/** Requests whose effect lasts as long as the session. */
function keepSetting(settings: Session["settings"] | undefined, request: JSONRPCRequest): void {
  const uri = String(request.params?.uri);
  if (request.method === "logging/setLevel") settings?.set("level", request);
  else if (request.method === "resources/subscribe") settings?.set(uri, request);
  else if (request.method === "resources/unsubscribe") settings?.delete(uri);
}

function urisOf(settings: Session["settings"]): string[] {
  return [...settings.values()].filter(({ method }) => method === "resources/subscribe").map(({ params }) => String(params?.uri));
}

/** One notification for each change that was asked for. */
function changesOf(filter: unknown): JSONRPCNotification[] {
  const { toolsListChanged, promptsListChanged, resourcesListChanged, resourceSubscriptions } = (filter ?? {}) as Record<string, unknown>;
  const lists = Object.entries({ tools: toolsListChanged, prompts: promptsListChanged, resources: resourcesListChanged });
  const uris = Array.isArray(resourceSubscriptions) ? (resourceSubscriptions as string[]) : [];
  return [
    ...lists
      .filter(([, isWanted]) => isWanted === true)
      .map(([list]) => ({ jsonrpc: "2.0" as const, method: `notifications/${list}/list_changed` })),
    ...uris.map((uri) => ({ jsonrpc: "2.0" as const, method: "notifications/resources/updated", params: { uri } })),
  ];
}

function withMeta(notification: JSONRPCNotification, meta: Record<string, unknown> | undefined): JSONRPCNotification {
  return { ...notification, params: { ...notification.params, _meta: meta } };
}
