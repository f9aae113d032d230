/** Clients of the Model Context Protocol: the official one in both eras, and single messages of the modern era as they are. */

import type { TestContext } from "node:test";
import { Client, type ClientCapabilities, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

export type Era = "modern" | "legacy";
export const eras: readonly Era[] = ["modern", "legacy"];

export const revision = "2026-07-28";

export interface ClientOptions {
  era: Era;
  key?: string;
  /** Answers what the server asks of the user; absent: the client cannot ask. */
  onQuestion?: (params: { message: string; requestedSchema: Record<string, unknown> }) => Record<string, unknown> | "decline";
  fetch?: typeof fetch;
}

/** Closed with the test. `url` is that of the coordinator. */
export async function connectMcp(test: TestContext, url: string, options: ClientOptions): Promise<Client> {
  const { era, key, onQuestion } = options;
  const capabilities: ClientCapabilities = onQuestion ? { elicitation: { form: {} } } : {};
  const client = new Client(
    { name: "test", version: "1.0.0" },
    { capabilities, ...(era === "modern" && { versionNegotiation: { mode: { pin: revision } } }) },
  );
  if (onQuestion) {
    client.setRequestHandler("elicitation/create", async ({ params }) => {
      const answer = onQuestion(params as never);
      return answer === "decline" ? { action: "decline" } : { action: "accept", content: answer as never };
    });
  }
  const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
    ...(key !== undefined && { requestInit: { headers: { authorization: `Bearer ${key}` } } }),
    ...(options.fetch && { fetch: options.fetch }),
  });
  await client.connect(transport);
  test.after(() => client.close());
  return client;
}

export interface Message {
  method: string;
  params?: Record<string, unknown>;
  key?: string;
  /** Declared by the client of this request. */
  capabilities?: Record<string, unknown>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export const withTasks = { extensions: { "io.modelcontextprotocol/tasks": {} } };

export interface Answered {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into what came, whatever it is
  result?: any;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  error?: any;
}

let count = 0;

/** One request of the modern era, as a client without a library sends it. Streams are read to their end. */
export async function ask(url: string, message: Message): Promise<Answered> {
  const response = await send(url, message);
  const text = await response.text();
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
  const json = isStream ? [...text.matchAll(/^data: (\{.*\})$/gm)].at(-1)?.[1] : text;
  const { error, result } = json ? JSON.parse(json) : {};
  return { status: response.status, headers: response.headers, result, error };
}

export function send(url: string, { capabilities = {}, headers, key, method, params = {}, signal }: Message): Promise<Response> {
  count += 1;
  const named = params.name ?? params.taskId ?? params.uri;
  const meta = {
    "io.modelcontextprotocol/protocolVersion": revision,
    "io.modelcontextprotocol/clientCapabilities": capabilities,
    "io.modelcontextprotocol/clientInfo": { name: "test", version: "1.0.0" },
    ...(params._meta as object | undefined),
  };
  return fetch(`${url}/mcp`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": revision,
      "mcp-method": method,
      ...(named !== undefined && { "mcp-name": String(named) }),
      ...(key !== undefined && { authorization: `Bearer ${key}` }),
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: count, method, params: { ...params, _meta: meta } }),
    ...(signal && { signal }),
  });
}

export function callTool(url: string, name: string, args: Record<string, unknown>, more: Partial<Message> = {}): Promise<Answered> {
  const { params, ...rest } = more;
  return ask(url, { method: "tools/call", params: { name, arguments: args, ...params }, ...rest });
}
