/**
 * Calls of tools of other servers: admitted by consent as they come and again as they go out, checked on both ways, bounded in number and time,
 * audited. A call goes out once; only one that its server calls harmless to repeat, and believed in that, is repeated, and only after a lost connection.
 */

import { type FieldError, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { ToolOutcome, ToolServerMetrics } from "../ports/metrics.ts";
import { type ToolConnection, ToolFailure, type ToolProgress, type ToolResult } from "../ports/tool-servers.ts";
import { CallBudget, type CallLimits, type HeldCall } from "./call-budget.ts";
import type { Caller } from "./caller.ts";
import { sizeOf, stepsOf, valueAt } from "./tool-binding.ts";
import { idOf, type ToolConsentDesk } from "./tool-consent-desk.ts";
import { cleanText } from "./tool-names.ts";
import { hintsOf, sha256Of } from "./tool-policy.ts";
import type { KnownTool, ToolServer } from "./tool-server.ts";
import type { ToolServers } from "./tool-servers.ts";

export interface ToolCall {
  server: string;
  tool: string;
  arguments: Record<string, unknown>;
  /**
   * The arguments with what is taken from elsewhere. Called once, when the tool may be called and the call has its turn: what nobody may have is not
   * read, and what waits holds none of it.
   */
  complete?: () => Promise<Record<string, unknown>>;
  /** Called with what the server tells of the call while it is under way; a call that is repeated tells of it from its beginning. */
  onProgress?: (told: ToolProgress) => void;
  /** What asks, for the trail: `http`, a pipeline's name. */
  via: string;
  /** Less than the server's own limit on a call, its waiting included. */
  timeoutMs?: number;
}

export interface CalledTool extends ToolResult {
  ms: number;
}

export interface ToolCallsParts {
  servers: ToolServers;
  desk: ToolConsentDesk;
  clock: Clock;
  metrics: ToolServerMetrics;
  limits?: CallLimits;
}

/** A definition may change while a call waits for its turn. */
const mostLooks = 3;
const mostFailureChars = 500;

export class ToolCalls {
  readonly #parts: ToolCallsParts;
  readonly #budget: CallBudget;

  constructor(parts: ToolCallsParts) {
    this.#parts = parts;
    this.#budget = new CallBudget(parts.limits);
  }

  /**
   * Calls one tool once. Resolves also when the tool says that it failed (`isError`). Throws `not_found`, `forbidden`, `consent_required`,
   * `invalid_request` by argument, `queue_full`, what `complete` throws, `tool_unavailable` (nothing was called), `tool_failed` and `expired` (it may have run: see
   * `may_have_run`), `cancelled` when `signal` aborts, `store_unavailable`.
   */
  async callTool(call: ToolCall, caller: Caller, signal: AbortSignal): Promise<CalledTool> {
    const { clock, desk, metrics, servers } = this.#parts;
    const server = servers.get(call.server);
    const held = this.#enter(call.server);
    const startedMs = clock.monotonicMs();
    const limitMs = Math.min(call.timeoutMs ?? Number.POSITIVE_INFINITY, server.settings.maxTotalMs);
    const limit = new AbortController();
    const stopClock = clock.after(limitMs, () => limit.abort());
    const running: RunningCall = {
      call,
      caller,
      server,
      signal: AbortSignal.any([signal, limit.signal]),
      endsMs: startedMs + limitMs,
      args: call.complete ? undefined : call.arguments,
      held,
    };
    let outcome: ToolOutcome = "internal";
    try {
      held.add(sizeOf(call.arguments));
      const result = await this.#inTurn(running);
      outcome = result.isError ? "tool_error" : "ok";
      return { ...result, ms: Math.round(clock.monotonicMs() - startedMs) };
    } catch (error) {
      const failure = error instanceof ToolFailure ? toError(error, running, { isLate: limit.signal.aborted, limitMs }) : error;
      if (failure instanceof SwitchyardError) outcome = failure.code;
      throw failure;
    } finally {
      stopClock();
      held.leave();
      const { sentPin, tool } = running;
      const tookMs = clock.monotonicMs() - startedMs;
      metrics.toolCalled(call.server, outcome, sentPin === undefined ? undefined : tookMs / 1_000);
      // what does not exist was not called
      if (tool) {
        await desk.note({
          event: "call",
          server: call.server,
          tool: call.tool,
          tenant: caller.tenant,
          by: idOf(caller),
          via: call.via,
          outcome,
          argumentsSha256: sha256Of(running.args ?? call.arguments),
          pin: tool.pin,
          ms: Math.round(tookMs),
        });
      }
    }
  }

  #enter(server: string): HeldCall {
    try {
      return this.#budget.enter(server);
    } catch (error) {
      this.#parts.metrics.toolCalled(server, "queue_full");
      throw error;
    }
  }

  async #inTurn(running: RunningCall): Promise<ToolResult> {
    const { call, server, signal } = running;
    running.tool = await knownTool(running);
    // refusals come before any waiting
    await this.#admit(running);
    const giveBack = await server.slots.take(signal, `the MCP server ${call.server}`);
    if (giveBack === undefined) throw new ToolFailure("aborted", "its turn did not come");
    try {
      if (call.complete) {
        running.args = await call.complete();
        running.held.add(sizeOf(running.args));
      }
      return await this.#send(running);
    } finally {
      giveBack();
    }
  }

  async #admit(running: RunningCall): Promise<void> {
    const { caller, server } = running;
    const tool = running.tool!;
    const check = (): void => {
      if (running.args === undefined || running.checkedPin === tool.pin) return;
      checkArguments(tool, running.args);
      running.checkedPin = tool.pin;
    };
    await this.#parts.desk.admit(server, tool, { caller, check });
  }

  /**
   * The connection by which the tool may be called now: judged again, because calls wait, and what was allowed before may not be any more. What is
   * asked meanwhile, connection or definition, stays what was judged.
   */
  async #admitted(running: RunningCall): Promise<ToolConnection> {
    const { call, server, signal } = running;
    for (let looks = 1; looks <= mostLooks; looks++) {
      const connection = await server.connected(signal);
      const tool = await knownTool(running);
      running.tool = tool;
      await this.#admit(running);
      const isSame = server.tools.get(call.tool)?.pin === tool.pin && (await server.connected(signal)) === connection;
      if (isSame) return connection;
    }
    throw new ToolFailure("unsent", "its definition or its connection changes all the time");
  }

  async #send(running: RunningCall): Promise<ToolResult> {
    let lost: unknown;
    for (let isRepeat = false; ; isRepeat = true) {
      try {
        return await this.#sendOnce(running);
      } catch (error) {
        const { kind, hasNotRun = false } = error instanceof ToolFailure ? error : {};
        // that the second try was not made says nothing about the first
        if (lost !== undefined && !running.signal.aborted && (!running.isRepeated || kind === "unsent")) throw lost;
        const wasSent = running.sentPin !== undefined;
        if (hasNotRun && lost === undefined) delete running.sentPin;
        const mayRepeat = (kind === "unsent" && wasSent) || (kind === "lost" && isRepeatable(running));
        if (!mayRepeat || isRepeat || running.signal.aborted) throw error;
        if (kind === "lost") lost = error;
      }
    }
  }

  async #sendOnce(running: RunningCall): Promise<ToolResult> {
    const { call, endsMs, server, signal } = running;
    const connection = await this.#admitted(running);
    if (signal.aborted) throw new ToolFailure("aborted", "the call was given up");
    const tool = running.tool!;
    const { timeoutMs } = server.settings;
    // our own clock ends the call; the client's is there in case
    const maxTotalMs = Math.max(0, endsMs - this.#parts.clock.monotonicMs()) + 1_000;
    if (running.sentPin !== undefined) {
      if (running.sentPin !== tool.pin) throw new ToolFailure("unsent", "its definition is another than the one that was called");
      running.isRepeated = true;
    }
    running.sentPin = tool.pin;
    const sent = server.began();
    try {
      const result = await connection.call(tool.definition, running.args ?? {}, {
        signal,
        timeoutMs,
        maxTotalMs,
        progress: call.onProgress,
      });
      checkResult(tool, result);
      return result;
    } catch (error) {
      // by the server's own limit: how long a caller waits says nothing about the server
      if (error instanceof ToolFailure && error.kind === "timed_out") server.suspect(sent);
      throw error;
    } finally {
      server.ended(sent);
    }
  }
}

interface RunningCall {
  call: ToolCall;
  caller: Caller;
  server: ToolServer;
  /** Of the caller, and of the time that the call may take. */
  signal: AbortSignal;
  endsMs: number;
  held: HeldCall;
  /** Complete; undefined while something is still to be taken from elsewhere. */
  args: Record<string, unknown> | undefined;
  /** The definition by which it was called: from here on it may have run. */
  sentPin?: string;
  isRepeated?: true;
  /** The definition that the arguments fit. */
  checkedPin?: string;
  /** As soon as it is known. */
  tool?: KnownTool;
}

/** The definition that was sent decides. */
function isRepeatable({ server, tool }: RunningCall): boolean {
  return tool !== undefined && hintsOf(tool.definition).idempotent && server.settings.trust !== "none";
}

/** Of a server that was never reached nothing is known: that one is waited for. Throws `not_found`. */
async function knownTool({ call, server, signal }: RunningCall): Promise<KnownTool> {
  const known = server.tools.get(call.tool);
  if (known) return known;
  await server.connected(signal);
  return requireTool(server, call.tool);
}

/** As last listed. Throws `not_found`. */
export function requireTool(server: ToolServer, name: string): KnownTool {
  const known = server.tools.get(name);
  if (known) return known;
  const names = [...server.tools.keys()];
  const listed = names.length === 0 ? "it lists none" : `it lists ${names.slice(0, 20).join(", ")}${names.length > 20 ? ", …" : ""}`;
  throw new SwitchyardError("not_found", `The MCP server ${server.settings.name} has no tool '${name.slice(0, 128)}': ${listed}`);
}

function checkArguments({ definition }: KnownTool, args: Record<string, unknown>): void {
  const problems = definition.checkArguments(args);
  const [first] = problems;
  if (first === undefined) return;
  const fields = problems.map(({ expected, pointer }): FieldError => {
    const got = shown(valueAt(args, stepsOf(pointer) ?? []));
    return { pointer: `/arguments${pointer}`, expected, got };
  });
  throw new SwitchyardError(
    "invalid_request",
    `The tool '${definition.name}' does not take these arguments: /arguments${first.pointer} ${first.expected}`,
    {
      fields,
    },
  );
}

function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 64 ? `${text.slice(0, 63).toWellFormed()}…` : text;
}

function checkResult({ definition }: KnownTool, result: ToolResult): void {
  if (result.isError || definition.outputSchema === undefined) return;
  if (result.structuredContent === undefined) {
    throw new ToolFailure("invalid", "it ran, and its answer lacks the structured content that its output schema promises");
  }
  const [problem] = definition.checkOutput(result.structuredContent);
  if (problem)
    throw new ToolFailure(
      "invalid",
      `it ran, and its answer is not what its output schema promises: ${problem.pointer} ${problem.expected}`,
    );
}

function toError(failure: ToolFailure, running: RunningCall, { isLate, limitMs }: { isLate: boolean; limitMs: number }): SwitchyardError {
  const { call, server } = running;
  const what = `The tool '${call.tool.slice(0, 128)}' of the MCP server ${call.server}`;
  const said = cleanText(failure.message, mostFailureChars) ?? "";
  const extra = { server: call.server, tool: call.tool };
  const mayHaveRun = { extra: { ...extra, may_have_run: running.sentPin !== undefined } };
  const ran = running.sentPin !== undefined ? "it may have run" : "it was not called";
  switch (failure.kind) {
    case "unsent":
      return new SwitchyardError("tool_unavailable", `${what} was not called: ${said}`, { retryAfterMs: server.retryAfterMs, extra });
    case "aborted":
      if (!isLate) return new SwitchyardError("cancelled", `${what}: the call was cancelled; ${ran}`, mayHaveRun);
      return new SwitchyardError("expired", `${what} did not answer within ${limitMs} ms; ${ran}`, mayHaveRun);
    case "timed_out":
      return new SwitchyardError("expired", `${what} gave no sign of life in time; it may have run`, mayHaveRun);
    case "lost":
      return new SwitchyardError("tool_failed", `${what} was lost before it answered, and may have run: ${said}`, mayHaveRun);
    case "refused":
      return new SwitchyardError("tool_failed", `${what} was refused by its server (${ran}): ${said}`, mayHaveRun);
    case "invalid":
      return new SwitchyardError("tool_failed", `${what}: ${said}`, mayHaveRun);
  }
}
