/**
 * One connection with one request at a time: a socket and just enough of a parser, so that the load costs far less CPU than what it measures. What
 * both protocols of the load have in common.
 */

import { connect, type Socket } from "node:net";

/** How requests travel: the Open Inference Protocol in binary over HTTP or gRPC, a job in JSON on /v1 that is waited for, a call of a model's tool. */
export type Wire = "http" | "grpc" | "json" | "mcp";

export interface Answer {
  wire: Wire;
  status: number;
  /** Value of Inference-Header-Content-Length; 0 when absent. */
  headerLength: number;
  /** Value of X-Switchyard-Error: the word of the error table that a refusal carries. */
  errorCode: string | undefined;
  body: Buffer;
}

const readBytes = 16_384;

/** A connected socket whose bytes come without a stream and its copies: for a small answer those cost as much as to read it. */
export class PlainSocket {
  readonly #socket: Socket;
  #onBytes: ((bytes: Buffer) => void) | undefined;

  private constructor({ host, port }: { host: string; port: number }) {
    const buffer = Buffer.allocUnsafe(readBytes);
    const callback = (count: number): boolean => {
      this.#onBytes?.(buffer.subarray(0, count));
      return true;
    };
    this.#socket = connect({ host, port, noDelay: true, onread: { buffer, callback } });
  }

  static async open(host: string, port: number): Promise<PlainSocket> {
    const { promise, reject, resolve } = Promise.withResolvers<void>();
    const opened = new PlainSocket({ host, port });
    opened.#socket.once("connect", resolve).once("error", reject);
    await promise;
    opened.#socket.off("error", reject);
    return opened;
  }

  /** What it reads is overwritten by what comes next. */
  listen(on: { bytes: (bytes: Buffer) => void; failed: (error: Error) => void }): void {
    this.#onBytes = on.bytes;
    this.#socket.on("error", on.failed);
    this.#socket.on("close", () => on.failed(new Error("the server closed the connection")));
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }
}

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

export abstract class Connection {
  readonly #socket: PlainSocket;
  #pending: Buffer | undefined;
  #waiting: Waiting | undefined;

  constructor(socket: PlainSocket) {
    this.#socket = socket;
    socket.listen({ bytes: (chunk) => this.#read(chunk), failed: (error) => this.fail(error) });
  }

  get isOpen(): boolean {
    return this.#socket.isOpen;
  }

  /** A whole request, as it was made for this wire. Without a promise, which a closed loop would pay for with each request. */
  send(request: Buffer, waiting: Waiting): void {
    this.#waiting = waiting;
    this.write(request);
  }

  ask(request: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => this.send(request, { resolve, reject }));
  }

  close(): void {
    this.#socket.close();
  }

  /** Reads what is whole; answers how many bytes that was. What it keeps beyond the answer it copies. */
  protected abstract take(bytes: Buffer): number;

  protected write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  protected answer(answer: Answer): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(answer);
  }

  protected fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.close();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk]);
    const taken = this.take(bytes);
    this.#pending = taken === bytes.length ? undefined : Buffer.from(bytes.subarray(taken));
  }
}
