/**
 * An address at which an HTTP server listens with several sockets, so that it accepts several connections in a turn of the event loop: of each, Node accepts
 * one. With a single socket a coordinator whose turns take 40 ms accepts 25 in a second (docs/decisions/0022-a-coordinator-that-is-behind.md).
 */

import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import { createServer, isIP, type Server } from "node:net";
import { cannotListen, entranceTo, listenOn, type Place, type Where } from "./listening.ts";

/** More gained nothing; none of them costs anything while nobody comes. */
const sockets = 16;

export class WideAddress {
  readonly #http: HttpServer;
  /** All but the HTTP server's own. */
  readonly #others: Server[] = [];
  #claim: Server | undefined;
  #closed: Promise<unknown> = Promise.resolve();

  constructor(http: HttpServer) {
    this.#http = http;
  }

  /** `first` opens the server's own socket, alone where the system or the address is not for several. Throws what it throws, and plain Errors that say what to do. */
  async listen(where: Where, first: (where: Where) => Promise<Place>): Promise<Place> {
    const isWide = process.platform === "linux" && isIP(where.host) !== 0 && (where.isShared || (await mayBeShared(where)));
    if (!isWide) return first(where);
    try {
      return await this.#open(where, first);
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  async #open(where: Where, first: (where: Where) => Promise<Place>): Promise<Place> {
    // sockets that may be shared are in nobody's way: who wants the address alone must find out whether it is free, and be in the way by other means
    const claim = where.port === 0 ? undefined : await claimOn(where);
    if (where.isShared) claim?.close();
    else this.#claim = claim;
    if (claim && !where.isShared) await mustBeFree(where);
    const place = await first({ ...where, isShared: true });
    if (!where.isShared) this.#claim ??= await claimOn(place);
    while (this.#others.length + 1 < sockets) {
      const other = entranceTo(this.#http);
      await listenOn(other, { ...place, isShared: true });
      this.#others.push(other);
    }
    return place;
  }

  /** Stops to listen at all but the server's own socket, and resolves when the last connection has ended that came by one of them. */
  async close(): Promise<void> {
    this.#claim?.close();
    this.#claim = undefined;
    this.#closed = Promise.all([this.#closed, ...this.#others.splice(0).map(ended)]);
    await this.#closed;
  }
}

async function ended(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  await closed;
}

async function mayBeShared({ host }: Place): Promise<boolean> {
  const probe = createServer();
  try {
    await listenOn(probe, { host, port: 0, isShared: true });
  } catch {
    return false; // some systems have no such option, and where it is the host that is wrong the next try says so
  }
  await ended(probe);
  return true;
}

async function mustBeFree({ host, port }: Place): Promise<void> {
  const probe = createServer();
  await listenOn(probe, { host, port });
  await ended(probe);
}

/** A name that one process can have, like a port that is not shared: a socket without a file, which goes with the process. */
async function claimOn(place: Place): Promise<Server> {
  const claim = createServer((socket) => void socket.destroy());
  claim.listen(`\0switchyard ${place.host} ${place.port}`);
  try {
    await once(claim, "listening");
  } catch (error) {
    throw cannotListen(place, String((error as NodeJS.ErrnoException).code), error) ?? error;
  }
  return claim;
}
