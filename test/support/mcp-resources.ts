/** The protocol's resources, prompts and subscriptions in one process, in both revisions, without a socket: for one caller, over any context. */

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createMcpHandler, InMemoryTransport, Server } from "@modelcontextprotocol/server";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { type DoorContext, type DoorParts, doorContext } from "../../coordinator/src/doors/door-context.ts";
import { isListen, type StreamLimits } from "../../coordinator/src/doors/mcp/change-streams.ts";
import { openResources, type ResourcePart } from "../../coordinator/src/doors/mcp/resource-part.ts";

export interface McpFace extends Pick<ResourcePart, "changes"> {
  context: DoorContext;
  /** A client of the stateless revision. `isAllowed` is asked of its streams. */
  modern(caller?: Caller, isAllowed?: () => boolean): Promise<Client>;
  /** A client of the earlier revision, with a session that ends with it. */
  legacy(caller?: Caller): Promise<Client>;
  /** One JSON-RPC request of the stateless revision, as a foreign client would send it. */
  ask(body: unknown, caller?: Caller, signal?: AbortSignal): Promise<Response>;
  close(): Promise<void>;
}

const info = { name: "switchyard", version: "1.2.3" };

export function mcpFace(parts: DoorParts, limits: StreamLimits = {}): McpFace {
  const context = doorContext(parts, () => false);
  const part = openResources(context);
  const serverFor = (caller: Caller, era: "modern" | "legacy"): Server => {
    const server = new Server(info, { capabilities: { tools: { listChanged: true } } });
    server.setRequestHandler("tools/list", () => ({ tools: [] }));
    part.add(server, { caller, era });
    return server;
  };
  const clients: Client[] = [];
  async function answer(request: Request, caller: Caller, isAllowed: () => boolean): Promise<Response> {
    const factory = () => serverFor(caller, "modern");
    const body: unknown = request.method === "POST" ? await request.clone().json() : undefined;
    if (isListen(body)) return part.streams(factory, limits).fetch(request, { body, caller, isAllowed });
    return createMcpHandler(factory, { legacy: "reject" }).fetch(request);
  }
  return {
    context,
    changes: part.changes,
    async modern(caller = localCaller, isAllowed = () => true) {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: { pin: "2026-07-28" } } });
      const fetch = (url: string | URL, init?: RequestInit) => answer(new Request(url, init), caller, isAllowed);
      await client.connect(new StreamableHTTPClientTransport(new URL("http://switchyard.test/mcp"), { fetch }));
      clients.push(client);
      return client;
    },
    async legacy(caller = localCaller) {
      const [here, there] = InMemoryTransport.createLinkedPair();
      await serverFor(caller, "legacy").connect(there);
      const client = new Client({ name: "test", version: "1" });
      await client.connect(here);
      clients.push(client);
      return client;
    },
    ask(body, caller = localCaller, signal) {
      const headers = {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": (body as { method: string }).method,
      };
      const init = { method: "POST", headers, body: JSON.stringify(body), ...(signal && { signal }) };
      return answer(new Request("http://switchyard.test/mcp", init), caller, () => true);
    },
    async close() {
      part.close();
      for (const client of clients) await client.close();
    },
  };
}

/** What a request of the stateless revision says of its client. */
export const envelope = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientCapabilities": {},
  "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
};
