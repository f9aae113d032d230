/**
 * An address at which an HTTP server listens with several sockets, so that it accepts several connections in a turn of the event loop: of each, Node accepts
 * one. With a single socket a coordinator whose turns take 40 ms accepts 25 in a second (docs/decisions/0022-a-coordinator-that-is-behind.md).
 */

import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Server as HttpServer } from "node:http";
import { createServer, isIP, type Server } from "node:net";
import { cannotListen, entranceTo, listenOn, type Place, type Where } from "./listening.ts";

/** More gained nothing; none of them costs anything while nobody comes. */
const sockets = 16;
/** Begins the names of claims. */
const claimed = "switchyard";
const everywhere: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

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
    if (where.isShared) await mustNotBeClaimed(where);
    try {
      return (await this.#isWide(where)) ? await this.#open(where, first) : await first(where);
    } catch (error) {
      void this.close(); // nobody waits for who may have come meanwhile
      throw error;
    }
  }

  /**
   * Whether it may have several sockets. Such are in nobody's way: who has the address alone claims it by other means, and must find out whether it is free.
   */
  async #isWide(where: Where): Promise<boolean> {
    if (process.platform !== "linux" || isIP(where.host) === 0) return false;
    if (where.isShared) return true;
    if (!(await mayBeShared(where))) return false;
    if (where.port === 0) return true;
    this.#claim = await claimOn(where);
    if (this.#claim === undefined) return false; // its own socket alone is refused by the system where somebody listens
    await mustBeFree(where);
    return true;
  }

  async #open(where: Where, first: (where: Where) => Promise<Place>): Promise<Place> {
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

/** A name that one process can have, like a port that is not shared: a socket without a file, which goes with the process. Undefined where it cannot be had. */
async function claimOn(place: Place): Promise<Server | undefined> {
  const claim = createServer((socket) => void socket.destroy());
  claim.listen(`\0${claimed} ${place.host} ${place.port}`);
  try {
    await once(claim, "listening");
    return claim;
  } catch {
    return undefined;
  }
}

/** Throws where somebody has claimed an address that is this one, or has it in it. */
async function mustNotBeClaimed(place: Place): Promise<void> {
  const { host, port } = place;
  const own = isIP(host) ? [host] : (await lookup(host, { all: true }).catch(() => [])).map(({ address }) => address);
  const names = await readFile("/proc/net/unix", "utf8").catch(() => "");
  const claims = names.matchAll(new RegExp(`@${claimed} (\\S+) ${port}$`, "gm"));
  const others = [...claims].map(([, address]) => address!);
  const overlaps = others.some((other) => own.some((one) => one === other || everywhere.has(one) || everywhere.has(other)));
  if (overlaps) throw cannotListen(place, "EADDRINUSE", undefined);
}
