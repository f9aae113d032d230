/**
 * The client that the official suite starts once for each scenario: the product's own client of upstream servers, told by variables what to play, and by
 * its last argument where the suite's server listens. It lists the tools and calls each of them.
 */

import { McpClients } from "../../../coordinator/src/adapters/mcp-client.ts";
import { systemClock } from "../../../coordinator/src/clock.ts";
import type { ToolServerSettings } from "../../../coordinator/src/ports/tool-servers.ts";
import { type Registered, withOAuth } from "./oauth-user.ts";

const {
  MCP_CONFORMANCE_SCENARIO: scenario = "",
  MCP_CONFORMANCE_PROTOCOL_VERSION: version = "",
  MCP_CONFORMANCE_CONTEXT: context = "{}",
} = process.env;
const url = process.argv.at(-1)!;
const asked = JSON.parse(context) as Registered & { toolCalls?: { name: string; arguments: Record<string, unknown> }[] };
const waits = { timeoutMs: 60_000, maxTotalMs: 100_000 };

const settings: ToolServerSettings = {
  name: "conformance",
  place: { kind: "http", url, headers: {}, allowPrivate: ["127.0.0.0/8", "::1/128"] },
  era: version.startsWith("2025") ? "legacy" : "modern",
  disabled: false,
  trust: "full",
  allowTools: [],
  denyTools: [],
  ...waits,
  maxConcurrency: 1,
  maxMessageBytes: 1 << 22,
  required: false,
  restart: false,
  expose: [],
  roots: [],
  elicitation: "defaults",
};

const log = (event: string, facts?: object): void => console.error(event, JSON.stringify(facts ?? {}));
const clients = new McpClients({
  clock: systemClock,
  log: { info: log, warn: log, error: log },
  version: "1.0.0",
  ...(scenario.startsWith("auth/") && { authorized: withOAuth(url, asked) }),
});
const { signal } = new AbortController();
const connection = await clients.connect(settings, { signal, heard() {}, changed() {}, lost: (why) => console.error("lost:", why) });
const tools = await connection.tools(signal);
const calls =
  asked.toolCalls ?? tools.map(({ name, inputSchema }) => ({ name, arguments: sampleOf(inputSchema) as Record<string, unknown> }));
for (const call of calls) {
  const tool = tools.find(({ name }) => name === call.name);
  if (tool === undefined) throw new Error(`there is no tool ${call.name}`);
  const { content } = await connection.call(tool, call.arguments, { signal, ...waits });
  console.error(`${call.name}: ${JSON.stringify(content)}`);
}
await connection.close();

/** The simplest value that a schema takes. */
function sampleOf(schema: Record<string, unknown>): unknown {
  switch (schema.type) {
    case "object": {
      const { properties = {} } = schema as { properties?: Record<string, Record<string, unknown>> };
      return Object.fromEntries(Object.entries(properties).map(([name, property]) => [name, sampleOf(property)]));
    }
    case "number":
    case "integer":
      return 7;
    case "boolean":
      return true;
    default:
      return Array.isArray(schema.enum) ? schema.enum[0] : "sample";
  }
}
