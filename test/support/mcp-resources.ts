/** The protocol's resources, prompts and subscriptions in one process, in both revisions, without a socket: for one caller, over any context. */

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createMcpHandler, InMemoryTransport, Server } from "@modelcontextprotocol/server";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { type DoorContext, type DoorParts, doorContext } from "../../coordinator/src/doors/door-context.ts";
import { ChangeStreams, isListen } from "../../coordinator/src/doors/mcp/change-streams.ts";
import { Changes } from "../../coordinator/src/doors/mcp/changes.ts";
import { Cursors } from "../../coordinator/src/doors/mcp/cursors.ts";
import { addResourceHandlers, capabilities, type ResourceSession } from "../../coordinator/src/doors/mcp/resources.ts";

export interface McpFace {
  context: DoorContext;
  changes: Changes;
  cursors: Cursors;
  /** A client of the stateless revision. `isAllowed` is asked of its streams. */
  modern(caller?: Caller, isAllowed?: () => boolean): Promise<Client>;
  /** A client of the earlier revision, with a session. `end` ends the session. */
  legacy(caller?: Caller): Promise<{ client: Client; end: () => void; isEnded: () => boolean }>;
  /** One JSON-RPC request of the stateless revision, as a foreign client would send it. */
  ask(body: unknown, caller?: Caller, signal?: AbortSignal): Promise<Response>;
  close(): Promise<void>;
}

const info = { name: "switchyard", version: "1.2.3" };

export function mcpFace(parts: DoorParts, streams: { keepAliveMs?: number; maxBehindBytes?: number } = {}): McpFace {
  const context = doorContext(parts, () => false);
  const changes = new Changes({ context });
  const cursors = new Cursors(context.secret);
  const serverFor = (caller: Caller, session?: ResourceSession): Server => {
    const server = new Server(info, { capabilities: { ...capabilities, tools: { listChanged: true } } });
    server.setRequestHandler("tools/list", () => ({ tools: [] }));
    addResourceHandlers(server, { context, caller, cursors, changes, ...(session && { session }) });
    return server;
  };
  const closers: (() => Promise<void> | void)[] = [];
  const streamsOf = (caller: Caller) => new ChangeStreams({ changes, factory: () => serverFor(caller), log: context.log, ...streams });
  async function answer(request: Request, caller: Caller, isAllowed: () => boolean): Promise<Response> {
    const body: unknown = request.method === "POST" ? await request.clone().json() : undefined;
    if (isListen(body)) return streamsOf(caller).fetch(request, { body, caller, isAllowed });
    return createMcpHandler(() => serverFor(caller), { legacy: "reject" }).fetch(request);
  }
  return {
    context,
    changes,
    cursors,
    async modern(caller = localCaller, isAllowed = () => true) {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: { pin: "2026-07-28" } } });
      const fetch = (url: string | URL, init?: RequestInit) => answer(new Request(url, init), caller, isAllowed);
      await client.connect(new StreamableHTTPClientTransport(new URL("http://switchyard.test/mcp"), { fetch }));
      closers.push(() => client.close());
      return client;
    },
    async legacy(caller = localCaller) {
      const over = new AbortController();
      let isEnded = false;
      const session: ResourceSession = {
        isAllowed: () => true,
        end: () => {
          isEnded = true;
        },
        signal: over.signal,
      };
      const server = serverFor(caller, session);
      const [here, there] = InMemoryTransport.createLinkedPair();
      await server.connect(there);
      const client = new Client({ name: "test", version: "1" });
      await client.connect(here);
      closers.push(async () => {
        over.abort();
        await client.close();
      });
      return { client, end: () => over.abort(), isEnded: () => isEnded };
    },
    ask(body, caller = localCaller, signal) {
      const { method, params } = body as { method: string; params?: { name?: string; uri?: string } };
      const name = params?.name ?? params?.uri;
      const headers: Record<string, string> = {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
        ...(name !== undefined && { "mcp-name": name }),
      };
      const init = { method: "POST", headers, body: JSON.stringify(body), ...(signal && { signal }) };
      return answer(new Request("http://switchyard.test/mcp", init), caller, () => true);
    },
    async close() {
      changes.close();
      for (const close of closers) await close();
    },
  };
}

/** What a request of the stateless revision says of its client. */
export const envelope = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientCapabilities": {},
  "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
};
