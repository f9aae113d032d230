/**
 * The host's own small HTTP server: /metrics for Prometheus, /livez, /readyz and /startupz for whoever runs the process. Figures are told to no page
 * that lets a name of its own point to a loopback address. It listens before anything else is there, since the port that it gets may name the host.
 */

import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { isLocalName, isLoopback } from "@switchyard/protocol";
import type { HostMetrics } from "./host-metrics.ts";

// an import of node:http reads all that it exports, a WebSocket too, for which Node compiles its whole HTTP client: 30 ms of CPU at each start
const { createServer, STATUS_CODES } = process.getBuiltinModule("node:http");

interface Parts {
  metrics: Pick<HostMetrics, "text" | "contentType">;
  /** Why not; nothing when it is. */
  unready: () => string | undefined;
  started: () => boolean;
}

export interface HealthServer {
  server: Server;
  /** The address in use. */
  at: string;
  port: number;
  /** Until then it lives, and no more. */
  serve(parts: Parts): void;
}

/**
 * Listens on the first of `inTurn` ports, from `port` on, that is not taken, else on any free one. Throws what the system says of the
 * address.
 */
export async function openHealthServer(
  { host, port }: { host: string; port: number },
  { inTurn = 1 }: { inTurn?: number } = {},
): Promise<HealthServer> {
  let parts: Parts | undefined;
  const checks = new Map<string | undefined, () => string | undefined>([
    ["/livez", () => undefined],
    ["/readyz", () => (parts ? parts.unready() : "the worker has not begun")],
    ["/startupz", () => (parts?.started() ? undefined : "the worker has not registered yet")],
  ]);
  const server = createServer((request, response) => {
    // some targets are no addresses, such as "//"; nobody catches what is thrown here, and the process would end
    const path = URL.parse(request.url ?? "/", "http://host")?.pathname;
    const answer = (status: number, text = STATUS_CODES[status]): void =>
      void response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
    if (path === "/metrics") {
      const asked = request.headers.host;
      if (isLoopback(host) && asked !== undefined && !isLocalName(asked)) {
        return answer(403, "The Host header names neither a loopback name nor an address");
      }
      if (!parts) return answer(503);
      const { metrics } = parts;
      metrics.text().then(
        (text) => response.writeHead(200, { "content-type": metrics.contentType() }).end(text),
        () => response.writeHead(500).end(),
      );
      return;
    }
    const check = checks.get(path);
    const why = check?.();
    answer(check ? (why === undefined ? 200 : 503) : 404, why);
  });
  const listen = (on: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(on, host, () => {
        server.off("error", reject);
        resolve();
      });
    });
  await listenOnFirst(portsFrom(port, inTurn), listen);
  const { port: got } = server.address() as AddressInfo;
  server.unref();
  return {
    server,
    at: `${host}:${got}`,
    port: got,
    serve: (given) => {
      parts = given;
    },
  };
}

function portsFrom(first: number, inTurn: number): number[] {
  if (first === 0) return [0];
  const near = Array.from({ length: inTurn }, (_, at) => first + at).filter((port) => port <= 65_535);
  return [...near, 0];
}

async function listenOnFirst(ports: readonly number[], listen: (port: number) => Promise<void>): Promise<void> {
  for (const [at, port] of ports.entries()) {
    try {
      return await listen(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || at === ports.length - 1) throw error;
    }
  }
}
