/** Addresses that servers open, and what to do where the system refuses one. */

import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";

/**
 * Connections that may wait to be accepted at one socket; the system may allow fewer. Those beyond are not refused but dropped, and their clients try again
 * after a second or more, then ever more rarely. Node asks for 511, which is too few where clients come together while turns are long.
 */
export const mostUnaccepted = 4_096;

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
