/** The host of MCP servers in this process, over the fixture server as real processes: consents and trail in memory, no Redis, no door. */

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { McpClients } from "../../coordinator/src/adapters/mcp-client.ts";
import { type PrometheusMetrics, prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { checkToolServers } from "../../coordinator/src/adapters/tool-server-settings.ts";
import type { CallLimits } from "../../coordinator/src/application/call-budget.ts";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { type CalledTool, ToolCalls } from "../../coordinator/src/application/tool-calls.ts";
import { ToolConsentDesk } from "../../coordinator/src/application/tool-consent-desk.ts";
import { ToolServers } from "../../coordinator/src/application/tool-servers.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { LogFields } from "../../coordinator/src/ports/log.ts";
import type { AuditedAct } from "../../coordinator/src/ports/tool-audit.ts";
import { askedAgain, type StoredConsent, type ToolConsents } from "../../coordinator/src/ports/tool-consents.ts";
import { until } from "./until.ts";

export const toolServerProgram = fileURLToPath(new URL("tool-server.ts", import.meta.url));

/** What the fixture compiles is kept for its next start, as that of all other processes of tests is. */
const compiled: Record<string, string> =
  process.env.NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE };

/** A server's entry in the configuration; `start` and others are the fixture's variables without their prefix. */
export function fixture(about: { env?: Record<string, string> } & Record<string, unknown> = {}): Record<string, unknown> {
  const { env = {}, ...more } = about;
  const variables = Object.fromEntries(Object.entries(env).map(([name, value]) => [`FIXTURE_${name.toUpperCase()}`, value]));
  return {
    command: process.execPath,
    args: [toolServerProgram],
    env: { ...compiled, ...variables },
    protocolEra: "modern",
    trust: "full",
    ...more,
  };
}

/** The fixture over HTTP; answers its address. */
export async function httpServer(t: TestContext, env: Record<string, string> = {}): Promise<string> {
  const child = spawn(process.execPath, [toolServerProgram, "--http"], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  return new Promise((resolve) => child.stdout.once("data", (line: Buffer) => resolve(String(line).trim())));
}

export function memoryConsents(): ToolConsents & { entries: Map<string, StoredConsent> } {
  const entries = new Map<string, StoredConsent>();
  const fieldOf = (server: string, tool: string): string => `${server}/${tool}`;
  return {
    entries,
    get: async (server, tool) => entries.get(fieldOf(server, tool)),
    ofServer: async (server, tools) =>
      new Map(
        tools.flatMap((tool) => {
          const entry = entries.get(fieldOf(server, tool));
          return entry ? [[tool, entry] as const] : [];
        }),
      ),
    async change({ server, tool }, change) {
      const made = change(entries.get(fieldOf(server, tool)), Date.now());
      if (made) entries.set(fieldOf(server, tool), made);
      else entries.delete(fieldOf(server, tool));
      return made;
    },
    async ask({ server, tool }, by) {
      const before = entries.get(fieldOf(server, tool));
      entries.set(fieldOf(server, tool), { ...before, asked: askedAgain(before?.asked, by, Date.now()) });
    },
  };
}

export interface ToolRig {
  servers: ToolServers;
  desk: ToolConsentDesk;
  consents: ReturnType<typeof memoryConsents>;
  calls: ToolCalls;
  acts: AuditedAct[];
  metrics: PrometheusMetrics;
  logged: { event: string; fields: LogFields | undefined }[];
  folder: string;
  configure(mcpServers: Record<string, Record<string, unknown>>): void;
  call(
    server: string,
    tool: string,
    args?: Record<string, unknown>,
    how?: { signal?: AbortSignal; timeoutMs?: number; caller?: Caller },
  ): Promise<CalledTool>;
  /** Of the first content block. */
  text(called: CalledTool): string;
  state(server: string): string;
  ready(...servers: string[]): Promise<void>;
}

export async function toolRig(test: TestContext, limits?: CallLimits): Promise<ToolRig> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-tools-"));
  const logged: ToolRig["logged"] = [];
  const log = (event: string, fields?: LogFields): void => void logged.push({ event, fields });
  const logs = { info: log, warn: log, error: log };
  const acts: AuditedAct[] = [];
  const consents = memoryConsents();
  const connector = new McpClients({ clock: systemClock, log: logs, version: "1.2.3" });
  const metrics = prometheusMetrics({ version: "1", processMetrics: false });
  const servers = new ToolServers({ connector: async () => connector, clock: systemClock, log: logs, metrics });
  const audit = { append: async (act: AuditedAct) => void acts.push(act), read: async () => [] };
  const desk = new ToolConsentDesk({ consents, audit, log: logs });
  const calls = new ToolCalls({ servers, desk, clock: systemClock, metrics, ...(limits && { limits }) });
  test.after(async () => {
    await servers.close();
    await rm(folder, { recursive: true, force: true });
  });
  const state = (server: string): string => servers.get(server).view().state;
  return {
    servers,
    desk,
    consents,
    calls,
    acts,
    metrics,
    logged,
    folder,
    configure(mcpServers) {
      const { mistakes, servers: wanted } = checkToolServers({ mcpServers }, { env: process.env, folder });
      if (mistakes.length > 0) throw new Error(mistakes.join("\n"));
      servers.configure(wanted);
    },
    call(server, tool, args = {}, { caller = localCaller, signal = new AbortController().signal, timeoutMs } = {}) {
      const call = { server, tool, arguments: args, via: "test", ...(timeoutMs !== undefined && { timeoutMs }) };
      return calls.callTool(call, caller, signal);
    },
    text: ({ content }) => String(content[0]?.text),
    state,
    async ready(...names) {
      for (const name of names) {
        const show = (): string => JSON.stringify([servers.get(name).view(), logged.slice(-10)]);
        await until(`${name} to be ready`, async () => state(name) === "ready", { withinMs: 60_000, show });
      }
    },
  };
}
