/** The servers of tools that are configured now, one client each. A new configuration touches only the servers that it changes. */

import { SwitchyardError } from "@switchyard/protocol";
import type { ToolServerSettings } from "../ports/tool-servers.ts";
import { canonicalJson } from "./tool-policy.ts";
import { ToolServer, type ToolServerParts } from "./tool-server.ts";

export class ToolServers {
  readonly #parts: Omit<ToolServerParts, "onTools">;
  readonly #listeners: (() => void)[] = [];
  #servers = new Map<string, ToolServer>();
  /** Servers that are on their way out, by name: a new one of that name waits for it. */
  readonly #ending = new Map<string, Promise<void>>();
  #isClosed = false;

  constructor(parts: Omit<ToolServerParts, "onTools">) {
    this.#parts = parts;
  }

  /** `heard` is called whenever tools, or the settings that concern them, have changed. */
  onTools(heard: () => void): void {
    this.#listeners.push(heard);
  }

  configure(wanted: readonly ToolServerSettings[]): void {
    if (this.#isClosed) return;
    const before = this.#servers;
    this.#servers = new Map();
    const { metrics } = this.#parts;
    for (const { disabled, name } of wanted) {
      if (disabled) metrics.toolServerGone(name);
      else metrics.toolServerKnown(name);
    }
    for (const settings of wanted) {
      const { name } = settings;
      const running = before.get(name);
      before.delete(name);
      if (running && connectionKey(running.settings) === connectionKey(settings)) {
        this.#servers.set(name, running);
        if (canonicalJson(running.settings) !== canonicalJson(settings)) running.apply(settings);
        continue;
      }
      if (running) this.#end(name, running);
      const server = new ToolServer(settings, { ...this.#parts, onTools: () => this.#tell() });
      this.#servers.set(name, server);
      const predecessor = this.#ending.get(name);
      if (predecessor === undefined) server.start();
      else void predecessor.then(() => this.#servers.get(name) === server && !this.#isClosed && server.start());
    }
    for (const [name, server] of before) {
      metrics.toolServerGone(name);
      this.#end(name, server);
    }
    this.#tell();
  }

  all(): ToolServer[] {
    return [...this.#servers.values()].sort((one, other) => (one.settings.name < other.settings.name ? -1 : 1));
  }

  /** Throws `not_found`. */
  get(name: string): ToolServer {
    const server = this.#servers.get(name);
    if (server) return server;
    const known = [...this.#servers.keys()];
    const configured = known.length === 0 ? "none is configured" : `configured are ${known.slice(0, 20).join(", ")}`;
    throw new SwitchyardError("not_found", `There is no MCP server '${name.slice(0, 64)}': ${configured}`);
  }

  /** Servers without which this coordinator should not be asked, and that it has not reached yet. Later losses are no reason to stop answering. */
  unready(): { check: string; detail: string }[] {
    return this.all()
      .filter(({ settings, wasReady }) => settings.required && !settings.disabled && !wasReady)
      .map((server) => ({
        check: "mcp_servers",
        // whoever asks for readiness is nobody in particular: what went wrong is for operators
        detail: `the required MCP server ${server.settings.name} is ${server.view().state} and was not reached yet`,
      }));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const [name, server] of this.#servers) this.#end(name, server);
    this.#servers = new Map();
    await Promise.all(this.#ending.values());
  }

  #end(name: string, server: ToolServer): void {
    const ended = Promise.all([this.#ending.get(name), server.close()]).then(() => {
      if (this.#ending.get(name) === ended) this.#ending.delete(name);
    });
    this.#ending.set(name, ended);
  }

  #tell(): void {
    for (const heard of this.#listeners) heard();
  }
}

/** Settings that a connection is made with: another text means another connection. */
function connectionKey({ disabled, elicitation, era, maxMessageBytes, place, restart, roots }: ToolServerSettings): string {
  return canonicalJson({ disabled, elicitation, era, maxMessageBytes, place, restart, roots });
}
