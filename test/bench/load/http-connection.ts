/** HTTP/1.1, keep-alive. Understands answers with Content-Length, and those in chunks. */

import { Connection, PlainSocket, type Wire } from "./connection.ts";

export class HttpConnection extends Connection {
  readonly #wire: Wire;

  constructor(socket: PlainSocket, wire: Wire) {
    super(socket);
    this.#wire = wire;
  }

  static async open(host: string, port: number, wire: Wire = "http"): Promise<HttpConnection> {
    return new HttpConnection(await PlainSocket.open(host, port), wire);
  }

  protected override take(bytes: Buffer): number {
    const headEnd = bytes.indexOf("\r\n\r\n");
    if (headEnd === -1) return 0;
    const head = bytes.toString("latin1", 0, headEnd + 2).toLowerCase();
    const length = numberAfter(head, "\r\ncontent-length:");
    if (length === undefined && !/\r\ntransfer-encoding: *chunked/.test(head)) {
      this.fail(new Error(`an answer of unknown length: ${head}`));
      return bytes.length;
    }
    const rest = bytes.subarray(headEnd + 4);
    const body = length === undefined ? wholeChunks(rest) : rest.length < length ? undefined : rest;
    if (body === undefined) return 0;
    const headerLength = numberAfter(head, "\r\ninference-header-content-length:") ?? 0;
    const status = Number(head.slice(9, 12));
    const errorCode = status === 200 ? undefined : /\r\nx-switchyard-error: *(\S+)/.exec(head)?.[1];
    this.answer({ wire: this.#wire, status, headerLength, errorCode, body });
    return bytes.length;
  }
}

/** The chunks' content, once the last one is there. */
function wholeChunks(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd === -1) return undefined;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    const end = lineEnd + 2 + size;
    if (bytes.length < end + 2) return undefined;
    if (size === 0) return Buffer.concat(parts);
    parts.push(bytes.subarray(lineEnd + 2, end));
    at = end + 2;
  }
}

function numberAfter(head: string, name: string): number | undefined {
  const at = head.indexOf(name);
  return at === -1 ? undefined : Number.parseInt(head.slice(at + name.length, at + name.length + 20).trim(), 10);
}
