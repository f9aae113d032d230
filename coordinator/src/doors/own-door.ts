/** A second way into an HTTP server, on a Unix socket, for those who ask this very process. The server's own close knows nothing of it. */

import { once } from "node:events";
import type { Server as HttpServer } from "node:http";
import type { Server, Socket } from "node:net";
import { entranceTo, mostUnaccepted } from "./listening.ts";

export class OwnDoor {
  readonly #http: HttpServer;
  readonly #door: Server;
  readonly #open = new Set<Socket>();

  constructor(http: HttpServer) {
    this.#http = http;
    this.#door = entranceTo(http).on("connection", (socket: Socket) => {
      this.#open.add(socket);
      socket.once("close", () => this.#open.delete(socket));
    });
  }

  async listen(file: string): Promise<void> {
    this.#door.listen({ path: file, backlog: mostUnaccepted });
    await once(this.#door, "listening");
  }

  /** Resolves when nobody asks any more. While those who ask now do, it can be asked: a call that is under way may need another one to go on. */
  async close(): Promise<void> {
    if (!this.#door.listening) return;
    this.#http.closeIdleConnections();
    for (const socket of [...this.#open]) if (!socket.destroyed) await new Promise((resolve) => void socket.once("close", resolve)); // once() would throw what broke it
    const closed = once(this.#door, "close");
    this.#door.close();
    await closed;
  }
}
