/**
 * The host's own small HTTP server: /metrics for Prometheus, /livez, /readyz and /startupz for whoever runs the process. Figures are told to no page
 * that lets a name of its own point to a loopback address.
 */

import { createServer, type Server, STATUS_CODES } from "node:http";
import type { AddressInfo } from "node:net";
import { isLocalName, isLoopback } from "@switchyard/protocol";
import type { HostMetrics } from "./host-metrics.ts";

interface Parts {
  metrics: HostMetrics;
  /** Why not; nothing when it is. */
  unready: () => string | undefined;
  started: () => boolean;
}

/** Listens on `port`, or on a free one if that is taken; answers the address in use. */
export async function startHealthServer(parts: Parts, address: { host: string; port: number }): Promise<{ server: Server; at: string }> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://host").pathname;
    const { host } = request.headers;
    if (path === "/metrics" && host !== undefined && isLoopback(address.host) && !isLocalName(host)) {
      response.writeHead(403, { "content-type": "text/plain" }).end("The Host header names neither a loopback name nor an address\n");
      return;
    }
    if (path === "/metrics") {
      parts.metrics.text().then(
        (text) => response.writeHead(200, { "content-type": parts.metrics.contentType() }).end(text),
        () => response.writeHead(500).end(),
      );
      return;
    }
    const checks: Record<string, () => string | undefined> = {
      "/livez": () => undefined,
      "/readyz": parts.unready,
      "/startupz": () => (parts.started() ? undefined : "the worker has not registered yet"),
    };
    const why = checks[path]?.();
    const status = checks[path] ? (why === undefined ? 200 : 503) : 404;
    response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${why ?? STATUS_CODES[status]}\n`);
  });
  const listen = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, address.host, () => {
        server.off("error", reject);
        resolve();
      });
    });
  await listen(address.port).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EADDRINUSE") throw error;
    return listen(0);
  });
  const { port } = server.address() as AddressInfo;
  server.unref();
  return { server, at: `${address.host}:${port}` };
}
