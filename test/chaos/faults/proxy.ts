/**
 * A TCP proxy that breaks what passes: Redis or HTTP. Every fault is one that networks and servers bring about by themselves: latency,
 * silence, resets, half-open connections, and a command that is carried out while its reply never arrives.
 */

import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CommandReader } from "./commands.ts";

/** What happens with one command on its way to Redis. */
export type CommandFault =
  /** It is carried out, its reply and all that would follow are swallowed, and the connection is reset. */
  | { kind: "drop_reply" }
  /** It never arrives: the connection is reset before it. */
  | { kind: "drop_command" }
  /** It is carried out, and then this is called, before anybody can have the reply. */
  | { kind: "after"; call: () => void }
  /** This is called in its place. */
  | { kind: "before"; call: () => void };

export interface ProxyTarget {
  host: string;
  port: number;
  /** Whether what clients send are commands of Redis. */
  isRedis?: boolean;
}

interface Pair {
  near: Socket;
  far: Socket;
  isFrozen: boolean;
  /** Commands are being queued for one transaction: nothing of it is carried out before its end. */
  isInTransaction: boolean;
  /** What is to happen once it has been. */
  faultOfTransaction?: CommandFault | undefined;
}

/** How long a command that loses its reply has to be carried out. */
const carriedOutMs = 60;

export class FaultProxy implements AsyncDisposable {
  /** Added to everything that passes, each way, in milliseconds; `jitterMs` is the most that chance adds. */
  latency: { ms: number; jitterMs: number; random: () => number } | undefined;
  /** Asked about every command, where the proxy reads them; nothing lets it pass. */
  onCommand: ((words: readonly string[]) => CommandFault | undefined) | undefined;
  /** New connections are accepted and nothing is read from them. */
  acceptsInSilence = false;
  /** Bytes stop in this direction, on all connections. */
  stopped = { there: false, back: false };
  readonly port: number;
  readonly #server: Server;
  readonly #target: ProxyTarget;
  readonly #pairs = new Set<Pair>();

  private constructor(server: Server, port: number, target: ProxyTarget) {
    this.#server = server;
    this.port = port;
    this.#target = target;
    server.on("connection", (near) => this.#join(near));
  }

  static async open(target: ProxyTarget): Promise<FaultProxy> {
    const server = createServer({ noDelay: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    return new FaultProxy(server, (server.address() as { port: number }).port, target);
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Connections that are open now stand still for good, and nobody is told; new ones work. */
  freezeOpen(): void {
    for (const pair of this.#pairs) {
      pair.isFrozen = true;
      pair.near.pause();
      pair.far.pause();
    }
  }

  /** Ends all open connections with a reset. */
  resetAll(): void {
    for (const pair of this.#pairs) this.#reset(pair);
  }

  /** The server's end goes, the client is not told. */
  halfOpen(): void {
    for (const pair of this.#pairs) {
      pair.isFrozen = true;
      pair.near.pause();
      pair.far.destroy();
    }
  }

  #join(near: Socket): void {
    near.on("error", () => {});
    if (this.acceptsInSilence) {
      near.pause();
      const silent: Pair = { near, far: near, isFrozen: true, isInTransaction: false };
      this.#pairs.add(silent);
      near.once("close", () => this.#pairs.delete(silent));
      return;
    }
    const far = dial({ host: this.#target.host, port: this.#target.port, noDelay: true });
    const pair: Pair = { near, far, isFrozen: false, isInTransaction: false };
    this.#pairs.add(pair);
    far.on("error", () => {});
    near.once("close", () => {
      this.#pairs.delete(pair);
      far.destroy();
    });
    far.once("close", () => {
      if (!pair.isFrozen) near.destroy();
    });
    void this.#carry(pair, near, far, "there");
    void this.#carry(pair, far, near, "back");
  }

  async #carry(pair: Pair, from: Socket, to: Socket, way: "there" | "back"): Promise<void> {
    const reader = way === "there" && this.#target.isRedis ? new CommandReader() : undefined;
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        while (pair.isFrozen || this.stopped[way]) {
          if (pair.near.destroyed) return;
          await sleep(20);
        }
        if (this.latency) await sleep(this.latency.ms + this.latency.random() * this.latency.jitterMs);
        if (reader) {
          if (await this.#breaks(pair, reader, chunk)) return;
        } else if (to.destroyed) return;
        else if (!to.write(chunk)) await drained(to);
      }
      to.end();
    } catch {
      this.#reset(pair); // the other end is gone
    }
  }

  /** Hands on what a client sent, up to the first command that breaks the connection; answers whether one did. */
  async #breaks(pair: Pair, reader: CommandReader, chunk: Buffer): Promise<boolean> {
    let [sent, before] = [0, 0];
    const send = (end: number): void => {
      if (end > sent) pair.far.write(chunk.subarray(sent, end));
      sent = end;
    };
    for (const { words, end } of reader.feed(chunk)) {
      const fault = this.#faultOf(pair, words);
      const start = before;
      before = end;
      if (fault === undefined) continue;
      if (fault.kind === "before" || fault.kind === "drop_command") {
        send(start);
        if (fault.kind === "before") fault.call();
        this.#reset(pair);
        return true;
      }
      // nothing of what the server says from here on may reach the client
      pair.isFrozen = true;
      send(end);
      await sleep(carriedOutMs);
      if (fault.kind === "after") fault.call();
      this.#reset(pair);
      return true;
    }
    send(chunk.length);
    if (pair.far.writableNeedDrain) await drained(pair.far);
    return false;
  }

  #faultOf(pair: Pair, words: readonly string[]): CommandFault | undefined {
    const fault = this.onCommand?.(words);
    const name = words[0]?.toLowerCase();
    if (name === "multi") pair.isInTransaction = true;
    if (!pair.isInTransaction) return fault;
    if (fault?.kind === "drop_reply" || fault?.kind === "after") pair.faultOfTransaction = fault;
    else if (fault) return fault;
    if (name !== "exec") return undefined;
    const atEnd = pair.faultOfTransaction;
    pair.isInTransaction = false;
    pair.faultOfTransaction = undefined;
    return atEnd;
  }

  #reset({ near, far }: Pair): void {
    near.resetAndDestroy();
    far.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    await closed;
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off("drain", done).off("close", done);
      resolve();
    };
    socket.on("drain", done).on("close", done);
  });
}
