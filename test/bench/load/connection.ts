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

/** A socket that is connected. */
export function openSocket(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true }, () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

export abstract class Connection {
  readonly #socket: Socket;
  #pending: Buffer | undefined;
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => this.#read(chunk));
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("the server closed the connection")));
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  /** A whole request, as it was made for this wire. */
  ask(request: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.write(request);
    });
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  /** Reads what is whole; answers how many bytes that was. */
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
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk]);
    const taken = this.take(bytes);
    this.#pending = taken === bytes.length ? undefined : bytes.subarray(taken);
  }
}
