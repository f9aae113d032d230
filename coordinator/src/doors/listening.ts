/** Addresses that servers open, and what to do where the system refuses one. */

import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";

/**
 * Connections that may wait to be accepted at one socket; the system may allow fewer. Those beyond are not refused but dropped, and their clients try again
 * after a second or more, then ever more rarely. Node asks for 511, which is too few where clients come together while turns are long.
 */
export const mostUnaccepted = 4_096;

/**
 * Sockets that listen at one address. Of each, Node accepts one connection in a turn of the event loop: with a single one a coordinator whose turns take
 * 40 ms would accept 25 in a second.
 */
const listeners = 16;
/** Elsewhere the system gives all connections of an address to one of its sockets, or has no such option. */
const dealsOut = process.platform === "linux";

export interface Place {
  host: string;
  port: number;
}

export interface Where extends Place {
  /** Other processes listen there, too, and the system deals connections out to all of them. */
  isShared?: boolean;
}

export function listenOptions({ host, port, isShared = false }: Where): Place & { backlog: number; reusePort?: true } {
  return { host, port, backlog: mostUnaccepted, ...(isShared && { reusePort: true }) };
}

/** Accepts connections for an HTTP server, as that does itself. */
export function entranceTo(http: HttpServer): Server {
  return createServer({ allowHalfOpen: true, noDelay: true }, (socket) => void http.emit("connection", socket));
}

/** An address at which an HTTP server listens with many sockets. */
export class WideAddress {
  readonly #http: HttpServer;
  readonly #others: Server[] = [];

  constructor(http: HttpServer) {
    this.#http = http;
  }

  /** Has `first` open the server's own socket. Throws what that throws, and what `listenOn` does. */
  async listen(where: Where, first: (where: Where) => Promise<Place>): Promise<Place> {
    if (!dealsOut) return first(where);
    if (!where.isShared && where.port !== 0) await mustBeFree(where); // somebody else's socket would not be in the way of one that may be shared
    const place = await first({ ...where, isShared: true });
    while (this.#others.length + 1 < listeners) {
      const other = entranceTo(this.#http);
      this.#others.push(other);
      await listenOn(other, { ...place, isShared: true });
    }
    return place;
  }

  /** Stops to listen at the others, and resolves when the last connection has ended that came by one of them. */
  async close(): Promise<void> {
    await Promise.all(
      this.#others.map(async (other) => {
        if (!other.listening) return;
        const closed = once(other, "close");
        other.close();
        await closed;
      }),
    );
  }
}

async function mustBeFree(where: Place): Promise<void> {
  const probe = createServer();
  await listenOn(probe, where);
  const closed = once(probe, "close");
  probe.close();
  await closed;
}

/** Throws a plain Error that says what to do when the address cannot be had. */
export async function listenOn(server: Server, where: Where): Promise<Place> {
  server.listen(listenOptions(where));
  try {
    await once(server, "listening");
  } catch (error) {
    throw cannotListen(where, String((error as NodeJS.ErrnoException).code), error) ?? error;
  }
  return { host: where.host, port: (server.address() as AddressInfo).port };
}

/** What to do about an address that the system refuses, by its code; undefined for other codes. */
export function cannotListen({ host, port }: Place, code: string, cause: unknown): Error | undefined {
  switch (code) {
    case "EADDRINUSE":
      return new Error(`${host}:${port} is in use by another process; choose another address`, { cause });
    case "EACCES":
      return new Error(`${host}:${port} may not be opened by this user; choose a port above 1023`, { cause });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return new Error(`${host} is no address of this machine`, { cause });
    case "ENOTSUP":
      return new Error(`several coordinators cannot share ${host}:${port} on this system; give each an address of its own`, { cause });
    default:
      return undefined;
  }
}
