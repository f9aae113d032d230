/**
 * One keep-alive HTTP/1.1 connection with one request at a time: a socket and just enough of a parser, so that the load costs far less
 * CPU than what it measures. Understands answers with Content-Length only, which is what all measured systems send.
 */

import { connect, type Socket } from "node:net";

/** How requests travel. */
export type Wire = "http" | "grpc";

export interface Answer {
  wire: Wire;
  status: number;
  /** Value of Inference-Header-Content-Length; 0 when absent. */
  headerLength: number;
  /** Value of X-Switchyard-Error: the word of the error table that a refusal carries. */
  errorCode: string | undefined;
  body: Buffer;
}

export class Connection {
  readonly #socket: Socket;
  #pending: Buffer | undefined;
  #waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => this.#read(chunk));
    socket.on("error", (error) => this.#fail(error));
    socket.on("close", () => this.#fail(new Error("the server closed the connection")));
  }

  static open(host: string, port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true }, () => {
        socket.off("error", reject);
        resolve(new Connection(socket));
      });
      socket.once("error", reject);
    });
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  ask(request: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk]);
    const headEnd = bytes.indexOf("\r\n\r\n");
    const head = headEnd === -1 ? undefined : bytes.toString("latin1", 0, headEnd + 2).toLowerCase();
    const length = head === undefined ? undefined : numberAfter(head, "\r\ncontent-length:");
    if (head !== undefined && length === undefined) {
      this.#fail(new Error(`an answer without Content-Length: ${head}`));
      return;
    }
    if (length === undefined || bytes.length < headEnd + 4 + length) {
      this.#pending = bytes;
      return;
    }
    this.#pending = undefined;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    const headerLength = numberAfter(head!, "\r\ninference-header-content-length:") ?? 0;
    const status = Number(head!.slice(9, 12));
    const errorCode = status === 200 ? undefined : /\r\nx-switchyard-error: *(\S+)/.exec(head!)?.[1];
    waiting?.resolve({ wire: "http", status, headerLength, errorCode, body: bytes.subarray(headEnd + 4) });
  }

  #fail(error: Error): void {
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#socket.destroy();
  }
}

function numberAfter(head: string, name: string): number | undefined {
  const at = head.indexOf(name);
  return at === -1 ? undefined : Number.parseInt(head.slice(at + name.length, at + name.length + 20).trim(), 10);
}
