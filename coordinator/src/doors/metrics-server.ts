/**
 * The metrics port: /metrics and the probe that asks nobody. Never on the public address. It takes no keys: where it listens on a loopback address,
 * a page of another site that lets its own name point here is told apart by that name, as at the door for everybody.
 */

import { isLocalName, isLoopback } from "@switchyard/protocol";
import Fastify from "fastify";
import { listen, withoutSchemas } from "./http-server.ts";
import type { Place } from "./listening.ts";

export interface MetricsServer {
  listen(where: Place): Promise<Place>;
  close(): Promise<void>;
}

/** `exposition` is asked on every scrape. `unready` says what this very coordinator lacks, where others answer at its public address, too. */
export function createMetricsServer(
  exposition: { readonly contentType: string; text(): Promise<string> },
  unready: () => string | undefined,
): MetricsServer {
  const app = Fastify({ logger: false, forceCloseConnections: true, schemaController: withoutSchemas });
  let isHere = false;
  app.get("/metrics", async ({ headers: { host } }, reply) => {
    if (isHere && host !== undefined && !isLocalName(host)) return reply.code(403).type("text/plain").send(foreignText);
    return reply.header("content-type", exposition.contentType).send(await exposition.text());
  });
  app.get("/livez", (_request, reply) => reply.header("content-type", "application/json").send('{"live":true}'));
  app.get("/readyz", (_request, reply) => {
    const detail = unready();
    const view = detail === undefined ? { ready: true } : { ready: false, detail };
    reply
      .code(view.ready ? 200 : 503)
      .header("content-type", "application/json")
      .send(JSON.stringify(view));
  });
  return {
    listen: (where) => {
      isHere = isLoopback(where.host);
      return listen(app, where);
    },
    close: () => app.close(),
  };
}

const foreignText = "The Host header names neither a loopback name nor an address\n";
