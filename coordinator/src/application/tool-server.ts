/**
 * The life of one server of tools: connected, looked at, lost, connected again, closed. Exactly one connection at a time; a server that
 * crashes, hangs or floods costs its own calls and nothing else. What it says of itself is kept from one connection to the next.
 */

import type { ToolServerState } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";
import type { ToolServerMetrics } from "../ports/metrics.ts";
import {
  type ToolConnection,
  type ToolConnector,
  type ToolDefinition,
  ToolFailure,
  type ToolServerSettings,
} from "../ports/tool-servers.ts";
import { CallSlots } from "./call-slots.ts";
import { originOf, pinOf } from "./tool-policy.ts";
import { nextAttempt, provenMs } from "./tool-restarts.ts";

/** A tool as it stands now, and the SHA-256 of its definition. */
export interface KnownTool {
  definition: ToolDefinition;
  pin: string;
}

/** How often tools are listed again although nothing said that they have changed: such words get lost. */
const relistMs = 60_000;
/** After a list that failed. */
const listAgainMs = 5_000;
/** One list that fails costs nobody's call. */
const mostFailedLists = 3;
/** While a server is suspected, calls are looked at so often. */
const suspicionMs = 100;
/** Between two lists, however often the server says that they have changed. */
const leastRelistMs = 1_000;
/** For a server that is being connected again, a call waits at most so long. */
const mostWaitMs = 15_000;
const mostWaiting = 1_000;
/** Calls that are under way when a server leaves the configuration have this long. */
const partingMs = 5_000;
const mostErrorChars = 500;

/** A call that is under way. */
interface SentCall {
  readonly sentMs: number;
}

export interface ToolServerParts {
  connector: () => Promise<ToolConnector>;
  clock: Clock;
  log: Log;
  metrics: ToolServerMetrics;
  /** Called when its tools, or what they say, have changed. */
  onTools: () => void;
}

export class ToolServer {
  readonly #parts: ToolServerParts;
  readonly slots: CallSlots;
  #settings: ToolServerSettings;
  #state: ToolServerState = "idle";
  #sinceMs: number;
  #connection: ToolConnection | undefined;
  #tools = new Map<string, KnownTool>();
  #lastError: { atMs: number; detail: string } | undefined;
  #nextAttemptMs: number | undefined;
  #losses = 0;
  #inARow = 0;
  #rests = false;
  #wasReady = false;
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  /** Ends the sleep between two looks at the server. */
  #wake = new AbortController();
  /** Since when it is asked whether the server still lives. */
  #suspectedMs: number | undefined;
  #heardMs = 0;
  readonly #underWay = new Set<SentCall>();
  readonly #watchers = new Set<() => void>();

  constructor(settings: ToolServerSettings, parts: ToolServerParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.slots = new CallSlots({ most: settings.maxConcurrency, mostWaiting });
    this.#sinceMs = parts.clock.nowMs();
  }

  get settings(): ToolServerSettings {
    return this.#settings;
  }

  get origin(): string {
    return originOf(this.#settings);
  }

  /** Whether it has been reached since it was configured. */
  get wasReady(): boolean {
    return this.#wasReady;
  }

  /** As last listed, by name. */
  get tools(): ReadonlyMap<string, KnownTool> {
    return this.#tools;
  }

  view() {
    const { era, protocolVersion, server } = this.#connection ?? {};
    return {
      state: this.#state,
      sinceMs: this.#sinceMs,
      losses: this.#losses,
      rests: this.#rests,
      ...(era && { era }),
      ...(protocolVersion !== undefined && { protocolVersion }),
      ...(server && { server }),
      ...(this.#nextAttemptMs !== undefined && { nextAttemptMs: this.#nextAttemptMs }),
      ...(this.#lastError && { lastError: this.#lastError }),
    };
  }

  start(): void {
    if (!this.#settings.disabled) this.#loop = this.#live();
  }

  /** Takes over what changes nothing about the connection. */
  apply(settings: ToolServerSettings): void {
    this.#settings = settings;
    this.slots.allow(settings.maxConcurrency);
    this.#parts.onTools();
  }

  /** Lets calls that are under way end, for a while; resolves when nothing of the server is left. */
  async close(): Promise<void> {
    this.#become("closed");
    const { clock } = this.#parts;
    const lateMs = clock.monotonicMs() + partingMs;
    while (this.#connection !== undefined && this.slots.running > 0 && clock.monotonicMs() < lateMs) await clock.sleep(20);
    this.#stop.abort();
    this.#wake.abort();
    await this.#loop;
  }

  /** A call goes out. */
  began(): SentCall {
    const sent = { sentMs: this.#parts.clock.monotonicMs() };
    this.#underWay.add(sent);
    return sent;
  }

  ended(sent: SentCall): void {
    this.#underWay.delete(sent);
  }

  /** Nothing was heard of this call for as long as the server may be silent: is it the server? What it has said to others since is an answer. */
  suspect({ sentMs }: SentCall): void {
    if (this.#suspectedMs !== undefined || this.#heardMs > sentMs) return;
    this.#suspectedMs = this.#parts.clock.monotonicMs();
    this.#wake.abort();
  }

  /** The connection, as soon as there is one. Throws a ToolFailure `unsent` when that takes too long, or there will be none. */
  async connected(signal: AbortSignal): Promise<ToolConnection> {
    const { clock } = this.#parts;
    const lateMs = clock.monotonicMs() + mostWaitMs;
    for (;;) {
      if (this.#state === "closed") throw new ToolFailure("unsent", "it is not configured any more");
      if (this.#connection) return this.#connection;
      if (this.#settings.disabled) throw new ToolFailure("unsent", "it is disabled in the configuration");
      const isLeft = this.#rests || (this.#state === "degraded" && !this.#settings.restart);
      const leftMs = lateMs - clock.monotonicMs();
      if (isLeft || leftMs <= 0) throw new ToolFailure("unsent", this.#lastError?.detail ?? "it is not connected yet");
      if (signal.aborted) throw new ToolFailure("aborted", "the call was given up");
      await this.#changed(leftMs, signal);
    }
  }

  /** How long to wait before a call may find it. */
  get retryAfterMs(): number {
    return Math.max(1_000, (this.#nextAttemptMs ?? 0) - this.#parts.clock.nowMs());
  }

  /** Resolves when the state changes, or after a while. */
  async #changed(mostMs: number, signal: AbortSignal): Promise<void> {
    const heard = new AbortController();
    const hear = (): void => heard.abort();
    this.#watchers.add(hear);
    signal.addEventListener("abort", hear, { once: true });
    await this.#parts.clock.sleep(mostMs, heard.signal);
    signal.removeEventListener("abort", hear);
    this.#watchers.delete(hear);
  }

  #hold(connection: ToolConnection | undefined): void {
    this.#connection = connection;
    this.#parts.metrics.toolServerConnected(this.#settings.name, connection !== undefined);
  }

  #become(state: ToolServerState): void {
    if (this.#state === "closed") return;
    this.#state = state;
    this.#sinceMs = this.#parts.clock.nowMs();
    for (const hear of [...this.#watchers]) hear();
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  async #live(): Promise<void> {
    const { clock, log } = this.#parts;
    const { name } = this.#settings;
    while (!this.#isStopped) {
      const { aliveMs, why } = await this.#connectOnce();
      if (this.#isStopped) return;
      this.#losses++;
      this.#parts.metrics.toolServerLost(name);
      this.#inARow = aliveMs >= provenMs ? 1 : this.#inARow + 1;
      this.#lastError = { atMs: clock.nowMs(), detail: why.slice(0, mostErrorChars) };
      const { delayMs, rests } = nextAttempt(this.#inARow, clock.jitter());
      const isOver = !this.#settings.restart;
      this.#rests = rests && !isOver;
      this.#nextAttemptMs = isOver ? undefined : clock.nowMs() + delayMs;
      this.#become("degraded");
      const next = isOver ? "never" : `${delayMs} ms`;
      log.warn("mcp_server_lost", { server: name, error: this.#lastError.detail, in_a_row: this.#inARow, next_attempt: next });
      if (isOver) return;
      await clock.sleep(delayMs, this.#stop.signal);
      this.#rests = false;
      this.#nextAttemptMs = undefined;
    }
  }

  /** Connects, and stays until the connection is lost. Answers why, and how long it was one. */
  async #connectOnce(): Promise<{ why: string; aliveMs: number }> {
    const { clock, connector, log } = this.#parts;
    let why: string | undefined;
    const gone = new AbortController();
    const heard = (): void => {
      this.#heardMs = clock.monotonicMs();
    };
    const lost = (reason: string): void => {
      why ??= reason;
      this.#hold(undefined); // whoever asks from now on waits for the next
      gone.abort();
      this.#wake.abort();
    };
    let isChanged = false;
    let failedLists = 0;
    const changed = (): void => {
      isChanged = true;
      this.#wake.abort();
    };
    let connection: ToolConnection | undefined;
    let readyMs: number | undefined;
    this.#become("connecting");
    try {
      connection = await (await connector()).connect(this.#settings, { signal: this.#stop.signal, changed, heard, lost });
      this.#takeOver(await connection.tools(this.#stop.signal));
      readyMs = clock.monotonicMs();
      if (why === undefined && !this.#isStopped) {
        this.#hold(connection);
        this.#wasReady = true;
        this.#suspectedMs = undefined;
        this.#heardMs = readyMs;
        this.#become("ready");
        log.info("mcp_server_ready", { server: this.#settings.name, era: connection.era, tools: this.#tools.size });
      }
      while (why === undefined && !this.#isStopped) {
        await this.#sleepUntilLook(gone.signal, failedLists === 0 ? relistMs : listAgainMs);
        if (why !== undefined || this.#isStopped) break;
        if (this.#suspectedMs !== undefined) {
          const isAlive = await this.#answers(connection, this.#suspectedMs, gone.signal);
          this.#suspectedMs = undefined;
          if (!isAlive) why ??= "it answers nothing any more";
          else if (!isChanged) continue;
        }
        if (why !== undefined) break;
        isChanged = false;
        const listed = { sentMs: clock.monotonicMs() };
        try {
          this.#takeOver(await connection.tools(this.#stop.signal));
          failedLists = 0;
        } catch (error) {
          if (!(error instanceof ToolFailure)) throw error;
          // one that works on a long call lists nothing meanwhile
          if (error.kind === "timed_out") this.suspect(listed);
          else if (++failedLists >= mostFailedLists) throw error;
          log.warn("mcp_list_failed", { server: this.#settings.name, error: error.message.slice(0, mostErrorChars) });
        }
      }
    } catch (error) {
      why ??= error instanceof ToolFailure ? error.message : `something broke here: ${(error as Error).message}`;
      if (!(error instanceof ToolFailure))
        log.error("mcp_client_broken", { server: this.#settings.name, error: (error as Error).stack ?? "" });
    }
    this.#hold(undefined);
    await connection?.close().catch(() => {});
    return { why: why ?? "it was closed", aliveMs: readyMs === undefined ? 0 : clock.monotonicMs() - readyMs };
  }

  /**
   * Many servers do one thing at a time, and answer nothing meanwhile: those that were called before the suspicion have their time first. Then, after
   * a silence of at least the server's own limit, it is asked.
   */
  async #answers(connection: ToolConnection, suspectedMs: number, gone: AbortSignal): Promise<boolean> {
    const { clock } = this.#parts;
    const over = AbortSignal.any([this.#stop.signal, gone]);
    const isHeard = (): boolean => this.#heardMs > suspectedMs;
    const lateMs = suspectedMs + this.#settings.timeoutMs;
    const isWorking = (): boolean => clock.monotonicMs() < lateMs && [...this.#underWay].some(({ sentMs }) => sentMs <= suspectedMs);
    while (!isHeard() && !over.aborted && isWorking()) await clock.sleep(suspicionMs, over);
    return isHeard() || over.aborted || (await connection.answers());
  }

  /** A server that says all the time that something has changed is asked once a second. */
  async #sleepUntilLook(gone: AbortSignal, usualMs: number): Promise<void> {
    const { clock } = this.#parts;
    const startedMs = clock.monotonicMs();
    await clock.sleep(usualMs * (0.8 + 0.4 * clock.jitter()), this.#wake.signal);
    this.#wake = new AbortController();
    if (this.#isStopped) return;
    const leftMs = leastRelistMs - (clock.monotonicMs() - startedMs);
    if (leftMs > 0 && this.#suspectedMs === undefined) await clock.sleep(leftMs, AbortSignal.any([this.#stop.signal, gone]));
  }

  #takeOver(definitions: readonly ToolDefinition[]): void {
    const before = this.#tools;
    const tools = new Map<string, KnownTool>();
    for (const definition of definitions) {
      const known = before.get(definition.name);
      tools.set(definition.name, known?.definition === definition ? known : { definition, pin: pinOf(definition) });
    }
    const isSame = tools.size === before.size && [...tools].every(([name, { pin }]) => before.get(name)?.pin === pin);
    this.#tools = tools;
    if (isSame) return;
    const changed = [...tools].filter(([name, { pin }]) => before.has(name) && before.get(name)!.pin !== pin).map(([name]) => name);
    if (changed.length > 0) {
      this.#parts.log.warn("mcp_tools_changed", { server: this.#settings.name, tools: changed.slice(0, 20).join(", ") });
    }
    this.#parts.onTools();
  }
}
