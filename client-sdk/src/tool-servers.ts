/** Tools of MCP servers that the cluster uses: look at them, call them, consent to them, read who did. */

import type { ToolAuditView, ToolCallView, ToolConsentView, ToolServerDetails, ToolServerView, ToolView } from "@switchyard/protocol";
import type { CallOptions } from "./job-handle.ts";
import { type Page, pathWith, readObject, readPage } from "./job-records.ts";
import type { Call, Transport } from "./transport.ts";

/** Where a bound argument comes from: a JSON pointer into a job, such as `/outputs/label/0`, `/id` or `/tags/site`. */
export interface BoundArgument {
  job: string;
  pointer: string;
}

export interface ToolCallOptions extends CallOptions {
  /** By JSON pointer into the arguments, such as `/output`. */
  bindings?: Record<string, BoundArgument> | undefined;
  /** The server's own limits hold besides. */
  timeoutMs?: number | undefined;
}

const path = "/v1/mcp";
const answerMs = 10_000;
/** Time that the server gets to say itself that the time is over. */
const graceMs = 5_000;
/** The longest call that a server may be configured with. */
const longestMs = 24 * 3_600_000;

export class ToolServerList {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All servers, as the coordinator that answers sees them; for keys with scope `operate`. */
  async list(options: CallOptions = {}): Promise<ToolServerView[]> {
    return readPage<ToolServerView>(await this.#ask({ path: `${path}/servers`, ...options }), "a list of MCP servers").items;
  }

  /** One server with its tools. Throws ClientError `not_found`. */
  async get(server: string, options: CallOptions = {}): Promise<ToolServerDetails> {
    return readObject(await this.#ask({ path: serverPath(server), ...options }), "an MCP server") as unknown as ToolServerDetails;
  }

  async tool(server: string, tool: string, options: CallOptions = {}): Promise<ToolView> {
    return readObject(await this.#ask({ path: toolPath(server, tool), ...options }), "a tool") as unknown as ToolView;
  }

  /**
   * Calls a tool, once: whether a call that got lost has run is not known, and so it is not repeated. Resolves also when the tool says that it
   * failed (`is_error`). Throws ClientError: `consent_required`, `forbidden`, `invalid_request`, `tool_unavailable` (nothing was called),
   * `tool_failed`, `expired`.
   */
  async call(server: string, tool: string, args: Record<string, unknown> = {}, options: ToolCallOptions = {}): Promise<ToolCallView> {
    const { bindings, signal, timeoutMs } = options;
    const body = JSON.stringify({
      arguments: args,
      ...(bindings && { bindings }),
      ...(timeoutMs !== undefined && { timeout_ms: timeoutMs }),
    });
    const answer = await this.#transport.once({
      method: "POST",
      path: toolPath(server, tool),
      headers: { "content-type": "application/json" },
      body,
      signal,
      tryMs: (timeoutMs ?? longestMs) + graceMs,
    });
    return readObject(answer.text(), "a tool's answer") as unknown as ToolCallView;
  }

  /** `pin`: the definition that was looked at; when it is another by now, nothing is decided and `changed_meanwhile` thrown. */
  async consent(
    server: string,
    tool: string,
    decision: "allow" | "deny",
    options: CallOptions & { pin?: string | undefined } = {},
  ): Promise<ToolConsentView> {
    const { pin, signal } = options;
    const text = await this.#ask({
      method: "PUT",
      path: `${toolPath(server, tool)}/consent`,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ decision, ...(pin !== undefined && { pin }) }),
      signal,
    });
    return readObject(text, "a consent") as unknown as ToolConsentView;
  }

  /** The configuration holds again. */
  async forget(server: string, tool: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ method: "DELETE", path: `${toolPath(server, tool)}/consent`, ...options });
  }

  /** One page of the trail, newest first. */
  async audit(
    page: { limit?: number | undefined; cursor?: string | undefined } = {},
    options: CallOptions = {},
  ): Promise<Page<ToolAuditView>> {
    return readPage<ToolAuditView>(await this.#ask({ path: pathWith(`${path}/audit`, { ...page }), ...options }), "an audit trail");
  }

  async #ask(call: Call): Promise<string> {
    return (await this.#transport.send({ tryMs: answerMs, ...call }, { withinMs: this.#transport.retry.giveUpAfterMs })).text();
  }
}

const serverPath = (server: string): string => `${path}/servers/${encodeURIComponent(server)}`;
const toolPath = (server: string, tool: string): string => `${serverPath(server)}/tools/${encodeURIComponent(tool)}`;
