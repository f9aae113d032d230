/** A plain TCP balancer: each connection goes to the next server that says it is ready. It knows nothing of what passes. */

import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const lookMs = 50;

export class Balancer implements AsyncDisposable {
  readonly url: string;
  readonly #server: Server;
  readonly #urls: () => readonly string[];
  readonly #sockets = new Set<Socket>();
  #ready: string[] = [];
  #turn = 0;
  #over = false;
  #looking: Promise<void>;

  private constructor(server: Server, urls: () => readonly string[]) {
    this.#server = server;
    this.#urls = urls;
    this.url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    server.on("connection", (near) => this.#join(near, 0));
    this.#looking = this.#look();
  }

  /** `urls`: where the servers are now, as http addresses with a `/readyz`. */
  static async open(urls: () => readonly string[]): Promise<Balancer> {
    const server = createServer({ noDelay: true, allowHalfOpen: true });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const balancer = new Balancer(server, urls);
    while (balancer.#ready.length === 0) await sleep(lookMs);
    return balancer;
  }

  async #look(): Promise<void> {
    while (!this.#over) {
      const looks = this.#urls().map(async (url) => {
        const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(1_000) }).catch(() => undefined);
        await answer?.arrayBuffer();
        return answer?.ok ? [url] : [];
      });
      this.#ready = (await Promise.all(looks)).flat();
      await sleep(lookMs);
    }
  }

  #join(near: Socket, tries: number): void {
    const url = this.#ready[this.#turn++ % Math.max(1, this.#ready.length)];
    if (url === undefined || tries > 5) {
      near.resetAndDestroy();
      return;
    }
    const { hostname, port } = new URL(url);
    const far = dial({ host: hostname, port: Number(port), noDelay: true, allowHalfOpen: true });
    let joined = false;
    for (const socket of [near, far]) this.#sockets.add(socket);
    near.on("error", () => far.destroy());
    near.once("close", () => {
      this.#sockets.delete(near);
      far.destroy();
    });
    far.once("connect", () => {
      joined = true;
      near.pipe(far);
      far.pipe(near);
    });
    far.on("error", () => {
      if (joined) near.resetAndDestroy();
      else this.#join(near, tries + 1); // it has just stopped listening
    });
    far.once("close", () => {
      this.#sockets.delete(far);
      if (joined && !near.destroyed) near.end();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await this.#looking;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
