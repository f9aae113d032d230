/** A real HTTP server that a test scripts request by request, to stand where a coordinator would and fail on purpose. */

import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { until } from "./until.ts";

export interface SeenRequest {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** Resolves when the connection of this request is gone. */
  closed: Promise<void>;
}

export type Script = (request: SeenRequest, response: ServerResponse, count: number) => void | Promise<void>;

export interface ScriptedServer extends AsyncDisposable {
  url: string;
  seen: SeenRequest[];
  /** Resolves with request number `count` (from 1). */
  request(count: number): Promise<SeenRequest>;
  /** Breaks all connections and listens no more. */
  stop(): Promise<void>;
  /** Listens again on the same port. */
  restart(): Promise<void>;
}

/** `script` is called with each request and its number, from 1. */
export async function startScriptedServer(script: Script): Promise<ScriptedServer> {
  const seen: SeenRequest[] = [];
  const waiting: { count: number; resolve: (request: SeenRequest) => void }[] = [];
  const onRequest = async (message: IncomingMessage, response: ServerResponse): Promise<void> => {
    const closed = new Promise<void>((resolve) => response.once("close", () => resolve()));
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    const request = { method: message.method!, url: message.url!, headers: message.headers, body: Buffer.concat(chunks), closed };
    seen.push(request);
    const count = seen.length;
    for (const waiter of waiting) if (waiter.count === count) waiter.resolve(request);
    await script(request, response, count);
  };
  let server: Server;
  const listen = async (port: number): Promise<number> => {
    server = createServer((message, response) => {
      onRequest(message, response).catch((error: unknown) => response.destroy(error as Error));
    });
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  };
  const port = await listen(0);
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await ended;
  };
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    request: (count) =>
      seen.length >= count ? Promise.resolve(seen[count - 1]!) : new Promise((resolve) => waiting.push({ count, resolve })),
    stop,
    restart: async () => {
      // somebody may have been given it for a moment
      await until(`port ${port} to be free`, () => listen(port).catch(() => undefined));
    },
    [Symbol.asyncDispose]: stop,
  };
}

export function answerJson(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": status >= 400 ? "application/problem+json" : "application/json", ...headers });
  response.end(JSON.stringify(body));
}
