/**
 * Keeps pages of other sites from a server that takes no keys. Whoever reaches its loopback address may do everything, and a browser lends that
 * reach to every page it shows: a page may send requests whose answers it cannot read, and by a name of its own that it lets point here
 * (DNS rebinding) it may read them too. Knows nothing of keys: where those are asked for, no page has one that its user did not give it.
 */

import type { IncomingHttpHeaders } from "node:http";
import { isLocalName, SwitchyardError } from "@switchyard/protocol";
import type { FastifyInstance } from "fastify";

interface Asked {
  method: string;
  headers: IncomingHttpHeaders;
}

/** Refuses requests of pages whose origin is not among `origins`, with `forbidden`. Probes stay open: they tell nothing, and are asked by any name. */
export function refuseForeignPages(app: FastifyInstance, { origins, probes }: { origins: readonly string[]; probes: Set<string> }): void {
  if (origins.includes("*")) return;
  const hosts = new Set(origins.map(hostOf));
  app.addHook("onRequest", (request, _reply, done) => {
    if (probes.has(request.routeOptions.url ?? "")) return done();
    const why = foreignName(request.headers, hosts) ?? foreignPage(request, origins);
    done(why === undefined ? undefined : new SwitchyardError("forbidden", why));
  });
}

const advice = "without API keys only pages of this server, and of the origins that --cors-origins names, may ask";

/**
 * A page that rebinds its name is of one origin with this server to its browser, which then sends no mark of it, so that all requests are asked
 * by which name they came. Addresses cannot be rebound, nor can names that no public server answers for.
 */
function foreignName({ host }: IncomingHttpHeaders, hosts: ReadonlySet<string>): string | undefined {
  if (host === undefined || hosts.has(host.toLowerCase()) || isLocalName(host)) return undefined;
  return `The Host header names ${shown(host)}, not a loopback name or an address: ${advice}`;
}

/** Going to an address, by a link or by hand, is no page's request: what it answers is shown to the user, and GET changes nothing. */
function foreignPage({ method, headers }: Asked, origins: readonly string[]): string | undefined {
  const { host, origin, "sec-fetch-mode": mode, "sec-fetch-site": site } = headers;
  if (origin !== undefined && origins.includes(origin)) return undefined;
  if (mode === "navigate" && (method === "GET" || method === "HEAD")) return undefined;
  // browsers older than Sec-Fetch-Site tell the origin of what may change anything; "null" is nobody's
  const isForeign =
    site === undefined ? origin !== undefined && hostOf(origin) !== host?.toLowerCase() : !/^(same-origin|none)$/.test(`${site}`);
  return isForeign ? `A page of ${origin === undefined ? "another origin" : shown(origin)} asked: ${advice}` : undefined;
}

function hostOf(origin: string): string {
  return origin.toLowerCase().replace(/^https?:\/\//, "");
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 256));
