/** The metrics port: /metrics and the probe that asks nobody. Never on the public address. */

import Fastify from "fastify";
import { listen } from "./http-server.ts";

export interface MetricsServer {
  listen(where: { host: string; port: number }): Promise<{ host: string; port: number }>;
  close(): Promise<void>;
}

/** `exposition` is asked on every scrape. */
export function createMetricsServer(exposition: { readonly contentType: string; text(): Promise<string> }): MetricsServer {
  const app = Fastify({ logger: false, forceCloseConnections: true });
  app.get("/metrics", async (_request, reply) => reply.header("content-type", exposition.contentType).send(await exposition.text()));
  app.get("/livez", (_request, reply) => reply.header("content-type", "application/json").send('{"live":true}'));
  return { listen: (where) => listen(app, where), close: () => app.close() };
}
