/**
 * Connections to MCP servers by the official SDK: one client for each, over pipes of a process or over HTTP, in both eras of the protocol. The
 * only file that knows the SDK's client, loaded when the first server is configured. Nothing of the SDK's errors leaves it.
 */

import {
  Client,
  type ClientOptions,
  deserializeMessage,
  type FetchLike,
  ProtocolError,
  SdkError,
  SdkErrorCode,
  SdkHttpError,
  SSEClientTransport,
  StreamableHTTPClientTransport,
  type Transport,
} from "@modelcontextprotocol/client";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/client/validators/ajv";
import type { ProtocolEra } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";
import {
  type CallHow,
  type ToolConnection,
  type ToolConnector,
  type ToolDefinition,
  ToolFailure,
  type ToolResult,
  type ToolServerPlace,
  type ToolServerSettings,
} from "../ports/tool-servers.ts";
import { elicitationAnswer } from "./elicitation-answer.ts";
import { type GuardedFetch, guardedFetch, NotDialled } from "./guarded-fetch.ts";
import { OpenRequests } from "./open-requests.ts";
import { isShallow, type SchemaCompiler, ToolDefinitions } from "./tool-definitions.ts";
import { ToolProcess, type ToolProcessEvents } from "./tool-process.ts";

/** The revision of the modern era that is spoken. */
const modernRevision = "2026-07-28";
/** To start, be asked for its era, and agree. */
const connectMs = 60_000;
/** A server that knows no `server/discover` says so, or is silent. */
const probeMs = 10_000;
/** A server may have been replaced by one that speaks the newer protocol. */
const legacyVerdictMs = 3_600_000;
const answersMs = 5_000;
const listMs = 30_000;
const mostPages = 20;
/** Of sessions over HTTP, when they are closed. */
const farewellMs = 2_000;
const shortestReconnectMs = 1_000;
/**
 * Errors that are answered before a tool is looked for, or instead of it: text that is no JSON, no request, no such method, no such tool or arguments
 * that it does not take, headers that contradict the body, capabilities or a revision that do not fit.
 */
const notRunCodes: ReadonlySet<number> = new Set([-32_700, -32_600, -32_601, -32_602, -32_020, -32_021, -32_022]);

type ConnectHow = Parameters<ToolConnector["connect"]>[1];

/** Stands between connections over HTTP and the network, as what gets and adds an access token does. */
type Authorized = (fetch: FetchLike) => FetchLike;

export class McpClients implements ToolConnector {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #version: string;
  /** Servers that are known to speak the older protocol, by name and place, and until when that is believed. */
  readonly #legacy = new Map<string, number>();

  readonly #authorized: Authorized | undefined;

  constructor(parts: { clock: Clock; log: Log; version: string; authorized?: Authorized }) {
    this.#authorized = parts.authorized;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#version = parts.version;
    compile({}); // the first one takes far longer than others, and no tool is to pay for it
  }

  async connect(settings: ToolServerSettings, how: ConnectHow): Promise<ToolConnection> {
    const key = JSON.stringify([settings.name, settings.place.kind === "stdio" ? settings.place.command : settings.place.url]);
    const knownUntilMs = this.#legacy.get(key) ?? 0;
    const era = settings.era === "auto" && this.#clock.monotonicMs() < knownUntilMs ? "legacy" : settings.era;
    try {
      const connection = await this.#open(settings, how, era);
      if (settings.era === "auto" && era === "auto" && connection.era === "legacy") this.#rememberLegacy(key);
      return connection;
    } catch (error) {
      // servers of older SDKs end when the first request is another than theirs: such a one is started again
      const isEra = isCode((error as Error).cause ?? error, SdkErrorCode.EraNegotiationFailed);
      const diedOfProbe = era === "auto" && settings.place.kind === "stdio" && isEra;
      if (!diedOfProbe || how.signal.aborted) throw toFailure(error, how.signal);
      try {
        const connection = await this.#open(settings, how, "legacy");
        this.#rememberLegacy(key);
        return connection;
      } catch (again) {
        throw toFailure(again, how.signal);
      }
    }
  }

  #rememberLegacy(key: string): void {
    this.#legacy.set(key, this.#clock.monotonicMs() + legacyVerdictMs);
  }

  async #open(settings: ToolServerSettings, how: ConnectHow, era: ToolServerSettings["era"]): Promise<ToolConnection> {
    const line = this.#lineTo(settings);
    const client = new Client({ name: "switchyard", version: this.#version }, clientOptions(settings, era, how.changed));
    offer(client, settings);
    // the client calls this one before it looks itself
    line.transport.onmessage = (message: object) => {
      if (isSignOfLife(message)) how.heard();
    };
    let oddities = 0;
    client.onerror = (error) => {
      // such as a note about a call that has just ended; a server decides how many there are
      if (oddities++ === 0) this.#log.info("mcp_server_odd", { server: settings.name, error: error.message.slice(0, 300) });
    };
    // the client asks its first question to the end of its time, whatever the signal says
    const leave = (): void => void line.end();
    how.signal.addEventListener("abort", leave, { once: true });
    if (how.signal.aborted) leave();
    try {
      await client.connect(line.transport, { timeout: connectMs, signal: how.signal });
    } catch (error) {
      const why = line.why();
      await line.end();
      throw why === undefined ? error : new ToolFailure("unsent", why, { cause: error });
    } finally {
      how.signal.removeEventListener("abort", leave);
    }
    const definitions = new ToolDefinitions({
      compile,
      clock: this.#clock,
      onLeftOut: (tool, why) => this.#log.warn("mcp_tool_left_out", { server: settings.name, tool, why }),
    });
    return new McpConnection({ client, line, definitions, how });
  }

  #lineTo(settings: ToolServerSettings): Line {
    const { name, place } = settings;
    if (place.kind === "stdio") {
      const said = (text: string): void => this.#log.info("mcp_server_said", { server: name, text });
      const remains = (why: string): void => this.#log.error("mcp_server_remains", { server: name, why });
      return processLine(place, { maxLineBytes: settings.maxMessageBytes, said, remains, clock: this.#clock });
    }
    return httpLine(place, {
      maxMessageBytes: settings.maxMessageBytes,
      clock: this.#clock,
      ...(this.#authorized && { authorized: this.#authorized }),
    });
  }
}

/** What carries messages, and what is known of its end. */
interface Line {
  transport: Transport;
  /** Whether all requests go one way, so that what one of them loses all have lost. Over HTTP each has a connection of its own. */
  isShared: boolean;
  /** Why it ended, in words. */
  why(): string | undefined;
  /** Whether the server has given it a session, which a server may forget. */
  hasSession(): boolean;
  /** Ends all of it; resolves when nothing is left. */
  end(): Promise<void>;
}

type StdioPlace = Extract<ToolServerPlace, { kind: "stdio" }>;
type HttpPlace = Exclude<ToolServerPlace, StdioPlace>;

interface ProcessHow extends Pick<ToolProcessEvents, "said" | "remains"> {
  maxLineBytes: number;
  clock: Clock;
}

function processLine(place: StdioPlace, how: ProcessHow): Line {
  let why: string | undefined;
  const server = new ToolProcess(
    {
      command: place.command,
      args: place.args,
      env: place.env,
      maxLineBytes: how.maxLineBytes,
      ...(place.cwd !== undefined && { cwd: place.cwd }),
    },
    {
      line: (text) => transport.take(text),
      said: how.said,
      remains: how.remains,
      ended(reason) {
        why = reason;
        transport.onclose?.();
      },
    },
    how.clock,
  );
  const transport = new ProcessTransport(server);
  return { transport, isShared: true, why: () => why, hasSession: () => false, end: () => server.close() };
}

/** The SDK's interface over a process. Having these two members, it is recognised as one that is not HTTP. */
class ProcessTransport implements Transport {
  readonly stderr = null;
  readonly #server: ToolProcess;
  readonly #open = new OpenRequests();
  onclose?: (() => void) | undefined;
  onerror?: ((error: Error) => void) | undefined;
  onmessage?: Transport["onmessage"];

  constructor(server: ToolProcess) {
    this.#server = server;
  }

  get pid(): number | undefined {
    return this.#server.pid;
  }

  /** Whether somebody waits for it. */
  take(line: string): boolean {
    try {
      const message = deserializeMessage(line);
      const isAsked = this.#open.take(message);
      this.onmessage?.(message);
      return isAsked;
    } catch (error) {
      this.onerror?.(error as Error);
      return false;
    }
  }

  start(): Promise<void> {
    return this.#server.start();
  }

  send(message: Parameters<Transport["send"]>[0]): Promise<void> {
    this.#open.sent(message);
    return this.#server.write(`${JSON.stringify(message)}\n`);
  }

  close(): Promise<void> {
    return this.#server.close();
  }
}

function httpLine(place: HttpPlace, how: { maxMessageBytes: number; clock: Clock; authorized?: Authorized }): Line {
  const { authorized = (fetch) => fetch, ...limits } = how;
  const guarded: GuardedFetch = guardedFetch({ allowPrivate: place.allowPrivate, ...limits });
  const url = new URL(place.url);
  const options = { fetch: authorized(guarded.fetch), requestInit: { headers: { ...place.headers } } };
  const transport =
    place.kind === "sse"
      ? new SSEClientTransport(url, options)
      : new StreamableHTTPClientTransport(url, {
          ...options,
          // a server says how soon it is asked again, and it may say at once
          reconnectionScheduler: (reconnect, delayMs) => how.clock.after(Math.max(delayMs, shortestReconnectMs), reconnect),
        });
  return {
    transport,
    isShared: false,
    why: () => undefined,
    hasSession: () => transport instanceof SSEClientTransport || transport.sessionId !== undefined,
    async end() {
      if (transport instanceof StreamableHTTPClientTransport) {
        await Promise.race([transport.terminateSession().catch(() => {}), how.clock.sleep(farewellMs)]);
      }
      await transport.close().catch(() => {});
      guarded.close();
    },
  };
}

function clientOptions(settings: ToolServerSettings, era: ToolServerSettings["era"], changed: () => void): ClientOptions {
  const isAnswered = settings.roots.length > 0 || settings.elicitation !== "off";
  const mode = { auto: "auto", legacy: "legacy", modern: { pin: modernRevision } } as const;
  return {
    // what is not offered here is refused by the SDK, or fails the call
    capabilities: {
      ...(settings.roots.length > 0 && { roots: {} }),
      ...(settings.elicitation !== "off" && { elicitation: {} }),
    },
    versionNegotiation: { mode: mode[era], probe: { timeoutMs: probeMs } },
    inputRequired: { autoFulfill: isAnswered, maxRounds: 3 },
    listChanged: { tools: { autoRefresh: false, debounceMs: 300, onChanged: changed } },
    listMaxPages: mostPages,
  };
}

/** Answers what servers may ask of this client, by the configuration. */
function offer(client: Client, { elicitation, roots }: ToolServerSettings): void {
  if (roots.length > 0) client.setRequestHandler("roots/list", async () => ({ roots: roots.map((root) => ({ ...root })) }));
  if (elicitation !== "off") {
    client.setRequestHandler("elicitation/create", async ({ params }) =>
      elicitationAnswer(elicitation, "requestedSchema" in params ? params.requestedSchema : undefined),
    );
  }
}

/** A validator of its own for each schema: schemas of different tools may claim one `$id`. */
const compile: SchemaCompiler = (schema) => {
  const check = new AjvJsonSchemaValidator().getValidator(schema);
  return (value) => {
    const { errorMessage, valid } = check(value);
    return valid ? undefined : (errorMessage ?? "data is not valid");
  };
};

class McpConnection implements ToolConnection {
  readonly #client: Client;
  readonly #line: Line;
  readonly #definitions: ToolDefinitions;
  #closing: Promise<void> | undefined;
  readonly #lost: (why: string) => void;
  readonly era: ProtocolEra;
  readonly protocolVersion: string | undefined;
  readonly server: { name: string; version: string } | undefined;

  constructor(parts: { client: Client; line: Line; definitions: ToolDefinitions; how: ConnectHow }) {
    const { client, line } = parts;
    this.#client = client;
    this.#line = line;
    this.#definitions = parts.definitions;
    this.era = client.getProtocolEra() ?? "legacy";
    this.protocolVersion = client.getNegotiatedProtocolVersion();
    const server = client.getServerVersion();
    this.server = server && { name: server.name, version: server.version };
    let isLost = false;
    this.#lost = (why) => {
      if (isLost || this.#closing !== undefined) return;
      isLost = true;
      parts.how.lost(why);
    };
    client.onclose = () => this.#lost(line.why() ?? "the connection ended");
    // it may have ended while the era was agreed on
    if (line.why() !== undefined) this.#lost(line.why()!);
  }

  async tools(signal: AbortSignal): Promise<ToolDefinition[]> {
    if (this.#client.getServerCapabilities()?.tools === undefined) return [];
    try {
      const { tools } = await this.#client.listTools(undefined, {
        cacheMode: "bypass",
        signal,
        timeout: listMs,
        maxTotalTimeout: listMs,
      });
      return this.#definitions.of(tools);
    } catch (error) {
      throw this.#failure(error, signal);
    }
  }

  async call(tool: ToolDefinition, args: Record<string, unknown>, how: CallHow): Promise<ToolResult> {
    try {
      const result = await this.#client.callTool(
        { name: tool.name, arguments: args },
        {
          signal: how.signal,
          timeout: Math.min(how.timeoutMs, how.maxTotalMs),
          maxTotalTimeout: how.maxTotalMs,
          resetTimeoutOnProgress: true,
          onprogress: how.progress ?? (() => {}), // without it progress is not asked for, and resets nothing
          // given, so that the SDK neither keeps a list of its own nor repeats the call after a change of it
          toolDefinition: { name: tool.name, inputSchema: { ...tool.inputSchema, type: "object" } },
        },
      );
      if (!isShallow(result)) throw new ToolFailure("invalid", "the answer is nested too deeply");
      return {
        content: result.content as ToolResult["content"],
        ...(result.structuredContent !== undefined && { structuredContent: result.structuredContent }),
        isError: result.isError === true,
      };
    } catch (error) {
      throw this.#failure(error, how.signal);
    }
  }

  async answers(): Promise<boolean> {
    try {
      if (this.era === "modern") await this.#client.discover({ timeout: answersMs });
      else await this.#client.ping({ timeout: answersMs });
      return true;
    } catch (error) {
      return error instanceof ProtocolError; // also no is an answer
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#line.end();
    return this.#closing;
  }

  /** Tells also that the connection is of no use any more, where the error says so. */
  #failure(error: unknown, signal: AbortSignal): ToolFailure {
    const failure = toFailure(error, signal, this.#line);
    if (failure.kind === "unsent" || (failure.kind === "lost" && this.#line.isShared)) this.#lost(failure.message);
    return failure;
  }
}

/** Log messages and words of changes come from servers, too, that do nothing else any more. */
const isSignOfLife = (message: object): boolean =>
  "result" in message || "error" in message || ("method" in message && message.method === "notifications/progress");

const isCode = (error: unknown, ...codes: SdkErrorCode[]): boolean => error instanceof SdkError && codes.includes(error.code);

function toFailure(error: unknown, signal: AbortSignal, line?: Line): ToolFailure {
  if (error instanceof ToolFailure) return error;
  if (signal.aborted) return new ToolFailure("aborted", "the call was given up");
  const { message } = error as Error;
  const cause = causeOf(error);
  if (cause instanceof NotDialled) return new ToolFailure("unsent", cause.message);
  if (error instanceof ProtocolError) {
    return new ToolFailure("refused", `it answers ${error.code}: ${message}`, { hasNotRun: notRunCodes.has(error.code) });
  }
  const answer = httpAnswerIn(error);
  if (answer) return httpFailure(answer, line);
  if (isCode(error, SdkErrorCode.RequestTimeout)) return new ToolFailure("timed_out", "it did not answer in time");
  if (isCode(error, SdkErrorCode.NotConnected, SdkErrorCode.EraNegotiationFailed) || message === "Not connected") {
    return new ToolFailure("unsent", line?.why() ?? message);
  }
  if (isCode(error, SdkErrorCode.ConnectionClosed, SdkErrorCode.SendFailed))
    return new ToolFailure("lost", line?.why() ?? "the connection ended");
  if (error instanceof SdkError) return new ToolFailure("invalid", message);
  return new ToolFailure("lost", line?.why() ?? message);
}

/** Errors of sockets come as the cause of others. */
function causeOf(error: unknown): unknown {
  let cause = error;
  for (let depth = 0; depth < 5 && cause instanceof Error && cause.cause !== undefined; depth++) cause = cause.cause;
  return cause;
}

interface HttpAnswer {
  status: number;
  text: string;
}

/** What a request was answered with that was not taken. The transport of 2024 has it in words only. */
function httpAnswerIn(error: unknown): HttpAnswer | undefined {
  if (error instanceof SdkHttpError) return { status: error.status ?? 0, text: String(error.data.text ?? "") };
  const [, status, text = ""] = /^Error POSTing to endpoint \(HTTP (\d{3})\): (.*)$/s.exec((error as Error).message) ?? [];
  return status === undefined ? undefined : { status: Number(status), text };
}

/**
 * What stands between may answer 429 and 503 for a server that has the request already. Only a session that is gone says for sure that nothing was
 * called: whoever knows sessions is the server.
 */
function httpFailure({ status, text }: HttpAnswer, line: Line | undefined): ToolFailure {
  const said = `it answers HTTP ${status}`;
  if (status === 401 || status === 403) {
    return new ToolFailure("refused", `it does not accept the configured credentials (HTTP ${status})`, { hasNotRun: true });
  }
  if (isSessionGone(status, line)) return new ToolFailure("unsent", said);
  if (status >= 500) return new ToolFailure("lost", said);
  return new ToolFailure("refused", said, { hasNotRun: notRunCodes.has(protocolCodeIn(text) ?? 0) });
}

const isSessionGone = (status: number, line: Line | undefined): boolean => status === 404 && line?.hasSession() === true;

function protocolCodeIn(text: string): number | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: { code?: unknown } };
    return typeof error?.code === "number" ? error.code : undefined;
  } catch {
    return undefined;
  }
}
